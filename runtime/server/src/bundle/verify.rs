//! Digests of every content file, checked in parallel, chunk by chunk, through the descriptors that are used afterwards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::Damage;
use super::folder::Folder;
use super::manifest::{CHUNK, FileEntry, hex};
use crate::engine::ffi::mapped::Mapped;

/// Bytes of one read: they stay in the core's own cache between reading and digesting.
const READ: usize = 256 << 10;

/// The bundle's verified files by path.
pub type Files = BTreeMap<String, Arc<Mapped>>;

/// A bundle's files as they were opened, and what was wrong with those that could not be.
pub struct Opened {
    pub files: Files,
    faults: Vec<String>,
}

/// Opens and maps all files and compares their sizes.
pub fn open_files(folder: &Folder, entries: &[FileEntry]) -> Opened {
    let mut opened = Opened { files: Files::new(), faults: Vec::new() };
    for entry in entries {
        match open_entry(folder, entry) {
            Ok(mapped) => drop(opened.files.insert(entry.path.clone(), mapped)),
            Err(fault) => opened.faults.push(fault),
        }
    }
    opened
}

/// Compares digests, on up to `threads` threads. Every damaged file is named.
pub fn verify_files(opened: &Opened, entries: &[FileEntry], threads: usize) -> Result<(), Damage> {
    let found = entries.iter().filter_map(|entry| Some((entry, opened.files.get(&entry.path)?)));
    let chunks: Vec<_> =
        found.flat_map(|(entry, mapped)| (0..entry.sha256.len()).map(move |index| (entry, mapped, index))).collect();
    let next = AtomicUsize::new(0);
    let damaged = Mutex::new(Vec::new());
    let work = || {
        let mut buffer = vec![0; READ];
        while let Some((entry, mapped, index)) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(fault) = check_chunk(entry, mapped, *index, &mut buffer) {
                damaged.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.clamp(1, chunks.len().max(1)) {
            scope.spawn(work);
        }
        work();
    });
    let mut faults = damaged.into_inner().unwrap_or_else(PoisonError::into_inner);
    faults.extend(opened.faults.iter().cloned());
    faults.sort();
    if faults.is_empty() { Ok(()) } else { Err(Damage::Damaged(faults.join("; "))) }
}

fn open_entry(folder: &Folder, entry: &FileEntry) -> Result<Arc<Mapped>, String> {
    let named = |e: String| format!("{}: {e}", entry.path);
    let mapped = Mapped::new(folder.file(&entry.path).map_err(named)?).map_err(|e| named(e.to_string()))?;
    let bytes = mapped.bytes().len();
    if bytes as u64 != entry.bytes {
        return Err(wrong_size(entry, bytes as u64));
    }
    Ok(Arc::new(mapped))
}

fn wrong_size(entry: &FileEntry, bytes: u64) -> String {
    format!("{} has {bytes} bytes and should have {}", entry.path, entry.bytes)
}

fn check_chunk(entry: &FileEntry, mapped: &Mapped, index: usize, buffer: &mut [u8]) -> Result<(), String> {
    let from = index as u64 * CHUNK;
    let to = entry.bytes.min(from + CHUNK);
    let mut digest = Sha256::new();
    let mut at = from;
    while at < to {
        let most = usize::try_from(to - at).unwrap_or(usize::MAX).min(buffer.len());
        let read = mapped.read_at(&mut buffer[..most], at).map_err(|e| format!("{}: {e}", entry.path))?;
        if read == 0 {
            return Err(wrong_size(entry, at));
        }
        digest.update(&buffer[..read]);
        at += read as u64;
    }
    if hex(&digest.finalize()) != entry.sha256[index] {
        return Err(format!("{} does not match its digest (chunk {index} of 4 MiB)", entry.path));
    }
    // A file that changes its size while it is read is being written: what was digested is not what will be used.
    match mapped.bytes_now() {
        Ok(bytes) if bytes == entry.bytes => Ok(()),
        Ok(bytes) => Err(wrong_size(entry, bytes)),
        Err(e) => Err(format!("{}: {e}", entry.path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = CHUNK as usize;

    fn entry(path: &str, bytes: &[u8]) -> FileEntry {
        let sha256 = bytes.chunks(BYTES).map(|c| hex(&Sha256::digest(c))).collect();
        FileEntry { path: path.into(), bytes: bytes.len() as u64, _executable: false, sha256 }
    }

    fn fault(folder: &Folder, entries: &[FileEntry]) -> String {
        verify_files(&open_files(folder, entries), entries, 2).expect_err("damage was not seen").to_string()
    }

    #[test]
    fn every_damaged_file_is_named_and_sound_ones_are_not() {
        let path = std::env::temp_dir().join(format!("infc-verify-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let folder = Folder::open(&path).unwrap();
        let large: Vec<u8> = (0..BYTES + 100).map(|i| i as u8).collect();
        let entries = [entry("large", &large), entry("short", b"abcdef"), entry("gone", b"x"), entry("empty", b"")];
        std::fs::write(path.join("large"), &large).unwrap();
        std::fs::write(path.join("short"), b"abcdef").unwrap();
        std::fs::write(path.join("gone"), b"x").unwrap();
        std::fs::write(path.join("empty"), b"").unwrap();
        let opened = open_files(&folder, &entries);
        assert_eq!(opened.files.len(), 4);
        verify_files(&opened, &entries, 2).unwrap();

        let mut flipped = large.clone();
        flipped[BYTES + 50] ^= 4;
        std::fs::write(path.join("large"), &flipped).unwrap();
        std::fs::write(path.join("short"), b"abcde").unwrap();
        std::fs::remove_file(path.join("gone")).unwrap();
        let text = fault(&folder, &entries);
        for part in ["large does not match its digest (chunk 1", "short has 5 bytes", "gone: No such file"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("empty"));
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_file_that_shrinks_after_it_was_mapped_is_named_and_ends_nothing() {
        let path = std::env::temp_dir().join(format!("infc-shrink-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let bytes = vec![7; 3 * READ];
        std::fs::write(path.join("w"), &bytes).unwrap();
        let entry = entry("w", &bytes);
        let mapped = open_entry(&Folder::open(&path).unwrap(), &entry).unwrap();
        std::fs::OpenOptions::new().write(true).open(path.join("w")).unwrap().set_len(READ as u64).unwrap();
        let fault = check_chunk(&entry, &mapped, 0, &mut vec![0; READ]).unwrap_err();
        assert_eq!(fault, format!("w has {READ} bytes and should have {}", 3 * READ));
        std::fs::remove_dir_all(&path).unwrap();
    }
}
