//! One measurement at a time on a machine: whoever holds the lock on a file in the temporary folder measures.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags, fchmod, flock, openat};
use rustix::io::Errno;

const NAME: &str = "infc-measure.lock";

/// Held until it is dropped, or the process ends.
pub struct Lock {
    _file: File,
}

/// Waits until nobody else measures; says so once.
pub fn lock() -> Result<Lock, String> {
    let path = std::env::temp_dir().join(NAME);
    lock_at(&path, || {
        crate::log::note(&format!("waiting: another measurement runs on this machine ({} is locked)", path.display()));
    })
}

fn lock_at(path: &Path, say: impl FnOnce()) -> Result<Lock, String> {
    let fault = |e: Errno| format!("{}: {}", path.display(), std::io::Error::from(e));
    let mut say = Some(say);
    loop {
        let file = open(&path.to_owned())?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                if let Some(say) = say.take() {
                    say();
                }
                match flock(&file, FlockOperation::LockExclusive) {
                    Ok(()) | Err(Errno::INTR) => {}
                    Err(error) => return Err(fault(error)),
                }
                if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                    continue;
                }
            }
            Err(error) => return Err(fault(error)),
        }
        // Somebody may have removed the file while it was waited for: others would lock another one.
        let identity = |m: std::fs::Metadata| (m.dev(), m.ino());
        let held = file.metadata().map(identity).ok();
        if held.is_some() && std::fs::symlink_metadata(path).map(identity).ok() == held {
            return Ok(Lock { _file: file });
        }
    }
}

/// The file, made where it is not there; never through a link. For anybody to lock, whoever made it.
fn open(path: &PathBuf) -> Result<File, String> {
    let all = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = loop {
        // Not with O_CREAT alone: in a folder of everybody's the kernel refuses that for a file of somebody else's.
        match openat(CWD, path, flags, Mode::empty()) {
            Err(Errno::NOENT) => {}
            other => break other,
        }
        match openat(CWD, path, flags | OFlags::CREATE | OFlags::EXCL, all) {
            Ok(file) => {
                // Past the umask; where it is refused only this user can measure.
                let _ = fchmod(&file, all);
                break Ok(file);
            }
            Err(Errno::EXIST) => {}
            Err(error) => break Err(error),
        }
    };
    let file = file.map_err(|e| match e {
        Errno::LOOP => format!("{}: it is a link, and must be a regular file", path.display()),
        e => format!("{}: {}", path.display(), std::io::Error::from(e)),
    })?;
    let stat = rustix::fs::fstat(&file).map_err(|e| format!("{}: {}", path.display(), std::io::Error::from(e)))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(format!("{}: it must be a regular file", path.display()));
    }
    Ok(File::from(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_waits_for_the_first_and_links_are_refused() {
        let folder = std::env::temp_dir().join(format!("infc-lock-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("lock");
        let first = lock_at(&path, || panic!("nobody holds it")).unwrap();
        let (said, hears) = std::sync::mpsc::channel();
        let other = path.clone();
        let second = std::thread::spawn(move || lock_at(&other, || said.send(()).unwrap()).is_ok());
        hears.recv().unwrap();
        assert!(!second.is_finished());
        drop(first);
        assert!(second.join().unwrap());
        std::os::unix::fs::symlink(&path, folder.join("link")).unwrap();
        assert!(lock_at(&folder.join("link"), || ()).err().unwrap().contains("a link"));
        assert!(lock_at(&folder, || ()).err().unwrap().contains("regular file"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
