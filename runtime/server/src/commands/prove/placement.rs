//! Which processors the server under proof has, and which the generator.

use std::collections::BTreeMap;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

pub struct Placement {
    pub server: Vec<usize>,
    pub generator: Vec<usize>,
    /// The generator takes from the time of the server's processors.
    pub shared: bool,
}

impl Placement {
    /// `cores` processors for the server, each of a physical core of its own as long as there are such, the others for the
    /// generator. `usable`: processors' worth of time that this process may take.
    pub fn new(cores: usize, usable: usize) -> Result<Self, String> {
        let allowed = allowed()?;
        if cores > allowed.len() {
            let what = if allowed.len() == 1 { "CPU" } else { "CPUs" };
            return Err(format!("--cores {cores}: this process may use {} {what}", allowed.len()));
        }
        Ok(place(cores, usable, &allowed, core_of))
    }

    pub fn to_json(&self) -> Value {
        json!({"server": self.server, "generator": self.generator, "shared": self.shared})
    }
}

/// The CPUs that this thread may run on.
fn allowed() -> Result<Vec<usize>, String> {
    let set = sched_getaffinity(None).map_err(|e| format!("sched_getaffinity: {e}"))?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// From now on this thread, and what it starts, runs on these CPUs alone.
pub fn confine(cpus: &[usize]) -> Result<(), String> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    sched_setaffinity(None, &set).map_err(|e| format!("sched_setaffinity to the CPUs {cpus:?}: {e}"))
}

fn place(cores: usize, usable: usize, allowed: &[usize], core_of: impl Fn(usize) -> Option<(u64, u64)>) -> Placement {
    // First one CPU of each physical core, then their siblings.
    let mut taken: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    let mut order: Vec<(usize, usize)> = Vec::new();
    for cpu in allowed {
        // What cannot be read is taken for a core of its own.
        let siblings = core_of(*cpu).map_or(1, |core| {
            let count = taken.entry(core).or_default();
            *count += 1;
            *count
        });
        order.push((siblings, *cpu));
    }
    order.sort_unstable();
    let order: Vec<usize> = order.into_iter().map(|(_, cpu)| cpu).collect();
    let (server, rest) = order.split_at(cores.clamp(1, order.len()));
    let servers: Vec<_> = server.iter().filter_map(|cpu| core_of(*cpu)).collect();
    // A sibling of a server's CPU takes from it as well; it is used where nothing else is left.
    let apart: Vec<usize> =
        rest.iter().copied().filter(|cpu| core_of(*cpu).is_none_or(|core| !servers.contains(&core))).collect();
    let generator = if apart.is_empty() { rest.to_vec() } else { apart };
    let shared = generator.is_empty() || usable <= server.len();
    let generator = if generator.is_empty() { server.to_vec() } else { generator };
    let sorted = |mut cpus: Vec<usize>| {
        cpus.sort_unstable();
        cpus
    };
    Placement { server: sorted(server.to_vec()), generator: sorted(generator), shared }
}

/// Package and core of a CPU.
fn core_of(cpu: usize) -> Option<(u64, u64)> {
    let read = |name: &str| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/{name}");
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    Some((read("physical_package_id")?, read("core_id")?))
}

/// How many physical cores this machine has, whoever may use them.
pub fn physical_cores() -> Option<usize> {
    let folders = std::fs::read_dir("/sys/devices/system/cpu").ok()?.flatten();
    let cpus = folders.filter_map(|f| f.file_name().to_str()?.strip_prefix("cpu")?.parse().ok());
    let cores: std::collections::BTreeSet<(u64, u64)> = cpus.filter_map(core_of).collect();
    Some(cores.len()).filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CPUs 0 to 3 are the first of four cores, 4 to 7 their siblings.
    fn siblings(cpu: usize) -> Option<(u64, u64)> {
        Some((0, cpu as u64 % 4))
    }

    fn placed(cores: usize, usable: usize, allowed: &[usize]) -> (Vec<usize>, Vec<usize>, bool) {
        let placement = place(cores, usable, allowed, siblings);
        (placement.server, placement.generator, placement.shared)
    }

    #[test]
    fn the_server_gets_cores_of_its_own_before_their_siblings() {
        let all = [0, 1, 2, 3, 4, 5, 6, 7];
        assert_eq!(placed(1, 8, &all), (vec![0], vec![1, 2, 3, 5, 6, 7], false));
        assert_eq!(placed(4, 8, &all), (vec![0, 1, 2, 3], vec![4, 5, 6, 7], false));
        assert_eq!(placed(5, 8, &all), (vec![0, 1, 2, 3, 4], vec![5, 6, 7], false));
        assert_eq!(placed(1, 2, &[0, 4]), (vec![0], vec![4], false));
        assert_eq!(placed(2, 3, &[0, 4, 5]), (vec![0, 5], vec![4], false));
    }

    #[test]
    fn where_nothing_is_left_the_generator_shares() {
        assert_eq!(placed(2, 2, &[1, 2]), (vec![1, 2], vec![1, 2], true));
        // Two CPUs, and the time of one.
        assert_eq!(placed(1, 1, &[1, 2]), (vec![1], vec![2], true));
        let unknown = place(1, 2, &[0, 1], |_| None);
        assert_eq!((unknown.server, unknown.generator, unknown.shared), (vec![0], vec![1], false));
    }
}
