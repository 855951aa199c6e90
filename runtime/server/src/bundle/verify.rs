//! Digests of every content file, checked in parallel, chunk by chunk, on the mapping that is served afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::Damage;
use super::manifest::{FileEntry, hex};
use crate::engine::ffi::mapped::Mapped;

/// Bytes of one chunk of a digest.
pub const CHUNK: usize = 4 << 20;

/// The bundle's verified files by path.
pub type Files = BTreeMap<String, Arc<Mapped>>;

/// Maps all files and compares sizes and digests, on up to `threads` threads. Every damaged file is named.
pub fn verify_files(folder: &Path, entries: &[FileEntry], threads: usize) -> Result<Files, Damage> {
    let mut files = Files::new();
    let mut faults = Vec::new();
    let mut chunks = Vec::new();
    for entry in entries {
        match open_entry(folder, entry) {
            Ok(mapped) => {
                chunks.extend((0..entry.sha256.len()).map(|index| (entry, Arc::clone(&mapped), index)));
                files.insert(entry.path.clone(), mapped);
            }
            Err(fault) => faults.push(fault),
        }
    }
    let next = AtomicUsize::new(0);
    let damaged = Mutex::new(Vec::new());
    let work = || {
        while let Some((entry, mapped, index)) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let bytes = mapped.bytes();
            let chunk = &bytes[index * CHUNK..bytes.len().min((index + 1) * CHUNK)];
            if hex(&Sha256::digest(chunk)) != entry.sha256[*index].to_ascii_lowercase() {
                let text = format!("{} does not match its digest (chunk {index} of 4 MiB)", entry.path);
                damaged.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.clamp(1, chunks.len().max(1)) {
            scope.spawn(work);
        }
        work();
    });
    faults.extend(damaged.into_inner().unwrap_or_else(PoisonError::into_inner));
    faults.sort();
    if faults.is_empty() { Ok(files) } else { Err(Damage::Damaged(faults.join("; "))) }
}

fn open_entry(folder: &Path, entry: &FileEntry) -> Result<Arc<Mapped>, String> {
    let mapped = Mapped::open(&folder.join(&entry.path)).map_err(|e| format!("{}: {e}", entry.path))?;
    let bytes = mapped.bytes().len();
    if bytes as u64 != entry.bytes {
        return Err(format!("{} has {bytes} bytes and should have {}", entry.path, entry.bytes));
    }
    if entry.sha256.len() != bytes.div_ceil(CHUNK).max(usize::from(!entry.sha256.is_empty())) {
        return Err(format!("{} has {} digests for {bytes} bytes", entry.path, entry.sha256.len()));
    }
    Ok(Arc::new(mapped))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, bytes: &[u8]) -> FileEntry {
        let sha256 = bytes.chunks(CHUNK).map(|c| hex(&Sha256::digest(c))).collect();
        FileEntry { path: path.into(), bytes: bytes.len() as u64, sha256 }
    }

    #[test]
    fn every_damaged_file_is_named_and_sound_ones_are_not() {
        let folder = std::env::temp_dir().join(format!("infc-verify-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let large: Vec<u8> = (0..CHUNK + 100).map(|i| i as u8).collect();
        let entries = [entry("large", &large), entry("short", b"abcdef"), entry("gone", b"x"), entry("empty", b"")];
        std::fs::write(folder.join("large"), &large).unwrap();
        std::fs::write(folder.join("short"), b"abcdef").unwrap();
        std::fs::write(folder.join("gone"), b"x").unwrap();
        std::fs::write(folder.join("empty"), b"").unwrap();
        assert_eq!(verify_files(&folder, &entries, 2).unwrap().len(), 4);

        let mut flipped = large.clone();
        flipped[CHUNK + 50] ^= 4;
        std::fs::write(folder.join("large"), &flipped).unwrap();
        std::fs::write(folder.join("short"), b"abcde").unwrap();
        std::fs::remove_file(folder.join("gone")).unwrap();
        let text = match verify_files(&folder, &entries, 2) {
            Err(damage) => damage.to_string(),
            Ok(_) => panic!("damage was not seen"),
        };
        for part in ["large does not match its digest (chunk 1", "short has 5 bytes", "gone: No such file"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("empty"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
