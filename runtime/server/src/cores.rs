//! What this machine has: cores that the process may use, and the CPU's features.

/// Cores that this process may keep busy: the CPU set and the control group's quota (`cpu.max`), at least one.
pub fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Raises the soft limit on open files towards `wanted`, as far as the hard one allows; what it is then.
pub fn open_files(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let number = |limit: Option<u64>| limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let limit = getrlimit(Resource::Nofile);
    if number(limit.current) < wanted {
        let raised = Some(wanted.min(number(limit.maximum)) as u64);
        // Where it is refused the limit stays what it is, and the next line reads that.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: raised, maximum: limit.maximum });
    }
    number(getrlimit(Resource::Nofile).current)
}

/// The first of `wanted` that this CPU lacks. Names that this server does not know are left to the model's own check.
pub fn missing_feature(wanted: &[String]) -> Option<&String> {
    wanted.iter().find(|name| has_feature(&plain(name)) == Some(false))
}

/// `avx512_vnni`, `AVX512-VNNI` and `avx512vnni` are one feature.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(target_arch = "x86_64")]
fn has_feature(name: &str) -> Option<bool> {
    macro_rules! table {
        ($($plain:literal => $feature:tt),* $(,)?) => {
            match name {
                $($plain => Some(std::arch::is_x86_feature_detected!($feature)),)*
                "neon" | "asimd" | "asimddp" | "dotprod" | "i8mm" | "sve" => Some(false),
                "amxtile" | "amxint8" | "amxbf16" => Some(listed_in_cpuinfo(name)),
                _ => None,
            }
        };
    }
    table! {
        "sse2" => "sse2", "sse3" => "sse3", "ssse3" => "ssse3", "sse41" => "sse4.1", "sse42" => "sse4.2",
        "popcnt" => "popcnt", "avx" => "avx", "avx2" => "avx2", "fma" => "fma", "f16c" => "f16c", "bmi1" => "bmi1",
        "bmi2" => "bmi2", "lzcnt" => "lzcnt", "abm" => "lzcnt", "movbe" => "movbe", "avx512f" => "avx512f", "avx512cd" => "avx512cd",
        "avx512bw" => "avx512bw", "avx512dq" => "avx512dq", "avx512vl" => "avx512vl", "avx512vbmi" => "avx512vbmi",
        "avx512vbmi2" => "avx512vbmi2", "avx512vnni" => "avx512vnni", "avx512bitalg" => "avx512bitalg",
        "avx512vpopcntdq" => "avx512vpopcntdq", "avx512ifma" => "avx512ifma", "avx512bf16" => "avx512bf16",
        "avx512fp16" => "avx512fp16", "avxvnni" => "avxvnni",
    }
}

#[cfg(target_arch = "aarch64")]
fn has_feature(name: &str) -> Option<bool> {
    use std::arch::is_aarch64_feature_detected as detected;
    match name {
        "neon" | "asimd" => Some(detected!("neon")),
        "dotprod" | "asimddp" => Some(detected!("dotprod")),
        "i8mm" => Some(detected!("i8mm")),
        "bf16" => Some(detected!("bf16")),
        "fp16" | "fphp" | "asimdhp" | "fullfp16" => Some(detected!("fp16")),
        "sve" => Some(detected!("sve")),
        _ if name.starts_with("avx") || name.starts_with("sse") || name.starts_with("amx") => Some(false),
        _ => None,
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_feature(_name: &str) -> Option<bool> {
    None
}

/// The kernel lists AMX only where the process may use it.
#[cfg(target_arch = "x86_64")]
fn listed_in_cpuinfo(name: &str) -> bool {
    cpu_flags().iter().any(|flag| plain(flag) == name)
}

/// The CPU's features as the kernel names them.
pub fn cpu_flags() -> Vec<String> {
    for key in ["flags", "Features"] {
        if let Some(flags) = cpuinfo(key) {
            return flags.split_whitespace().map(str::to_owned).collect();
        }
    }
    vec![]
}

/// The first value of a key in `/proc/cpuinfo`.
pub fn cpuinfo(key: &str) -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let found = text.lines().filter_map(|line| line.split_once(':')).find(|(k, _)| k.trim() == key);
    found.map(|(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_known_by_any_spelling_and_unknown_ones_are_not_refused() {
        let foreign = if cfg!(target_arch = "x86_64") { "neon" } else { "avx512_vnni" };
        let wanted: Vec<String> = vec!["some-new-feature".into(), foreign.into()];
        assert_eq!(missing_feature(&wanted).map(String::as_str), Some(foreign));
        assert_eq!(missing_feature(&wanted[..1]), None);
        assert_eq!(plain("AVX512_VNNI"), plain("avx512vnni"));
        assert!(usable_cores() >= 1);
    }
}
