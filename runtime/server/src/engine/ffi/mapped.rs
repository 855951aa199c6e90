//! Files mapped read-only.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use memmap2::Mmap;

/// An open regular file and its bytes: mapped, or nothing for an empty file (which cannot be mapped). The descriptor
/// stays open as long as this lives.
pub struct Mapped {
    file: File,
    map: Option<Mmap>,
}

impl Mapped {
    pub fn new(file: File) -> io::Result<Self> {
        let map = if file.metadata()?.len() == 0 {
            None
        } else {
            // SAFETY: a bundle's files are not written while it is served; a bundle is replaced by renaming.
            Some(unsafe { Mmap::map(&file)? })
        };
        Ok(Mapped { file, map })
    }

    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }

    /// Reads at `offset` through the descriptor: where the file has shrunk since it was mapped this ends early, while
    /// touching the mapping would end the process.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    /// All bytes, read through the descriptor: those that the file had when it was mapped, or fewer.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.map.as_ref().map_or(0, |map| map.len())];
        let mut at = 0;
        while at < bytes.len() {
            let read = self.file.read_at(&mut bytes[at..], at as u64)?;
            if read == 0 {
                break;
            }
            at += read;
        }
        bytes.truncate(at);
        Ok(bytes)
    }

    /// How many of its pages the kernel holds in memory; all of them where it does not tell, of a file of somebody else's.
    pub fn pages_in_memory(&self) -> io::Result<usize> {
        let Some(map) = &self.map else { return Ok(0) };
        let mut pages = vec![0u8; map.len().div_ceil(rustix::param::page_size())];
        // SAFETY: the mapping is as long as is said, and there is a byte for each of its pages.
        let result = unsafe { libc::mincore(map.as_ptr().cast_mut().cast(), map.len(), pages.as_mut_ptr()) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(pages.iter().filter(|page| **page & 1 == 1).count())
    }

    /// Bytes that the file has now.
    pub fn bytes_now(&self) -> io::Result<u64> {
        self.file.metadata().map(|m| m.len())
    }

    /// Device and inode.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        self.file.metadata().map(|m| (m.dev(), m.ino()))
    }

    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
