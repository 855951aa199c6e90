//! What a measurement was taken on.

use serde_json::{Value, json};

use super::placement::physical_cores;
use crate::cores;

/// CPU, cores, memory and kernel of this machine, and the server's version. `usable`: cores that this process may keep busy.
pub fn fingerprint(usable: usize) -> Value {
    let cpuinfo = |key| cores::cpuinfo(key);
    let wanted = ["avx", "fma", "f16c", "bmi", "amx", "sse4", "asimd", "sve", "i8mm", "bf16", "fphp", "neon"];
    let mut isa = cores::cpu_flags();
    isa.retain(|flag| wanted.iter().any(|w| flag.starts_with(w)));
    isa.sort();
    json!({
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "kernel": read_line("/proc/sys/kernel/osrelease"),
        "vendor": cpuinfo("vendor_id").or_else(|| cpuinfo("CPU implementer")),
        "family": cpuinfo("cpu family"),
        "model": cpuinfo("model").or_else(|| cpuinfo("CPU part")),
        "model_name": cpuinfo("model name"),
        "isa": isa,
        "cores": usable,
        "physical_cores": physical_cores(),
        "memory_bytes": memory_bytes(),
        "device": null,
        "serve": env!("CARGO_PKG_VERSION"),
    })
}

fn read_line(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

fn memory_bytes() -> Option<u64> {
    proc_kib("/proc/meminfo", "MemTotal")
}

/// A line `Key: N kB` of a file under /proc, in bytes.
pub fn proc_kib(path: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Seconds since 1970 as `2026-01-31T12:34:56Z` (the proleptic Gregorian calendar, by Hinnant's civil_from_days).
pub fn utc(seconds: u64) -> String {
    let (days, rest) = ((seconds / 86_400) as i64 + 719_468, seconds % 86_400);
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_798_761_599), "2026-12-31T23:59:59Z");
    }

    #[test]
    fn this_machine_has_cores_and_memory() {
        let print = fingerprint(cores::usable_cores());
        assert!(print["cores"].as_u64().unwrap() > 0 && print["memory_bytes"].as_u64().unwrap() > 1 << 20);
    }
}
