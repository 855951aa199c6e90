//! Files mapped read-only.

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// A file's bytes: mapped, or nothing for an empty file (which cannot be mapped).
pub struct Mapped(Option<Mmap>);

impl Mapped {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        if metadata.len() == 0 {
            return Ok(Mapped(None));
        }
        // SAFETY: a bundle's files are not written while it is served; a bundle is replaced by renaming.
        Ok(Mapped(Some(unsafe { Mmap::map(&file)? })))
    }

    pub fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}
