//! A bundle's folder: the only place where its files are opened.
//!
//! **Invariant**: each file is opened once, and digested, mapped, parsed and loaded from that one descriptor, so that
//! what was compared with its digest is what is used. Below the folder no link is followed (the way *to* the folder may
//! lead over links); opening never waits; only regular files are taken.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, openat};
use rustix::io::Errno;

pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl Folder {
    pub fn open(path: &Path) -> Result<Self, String> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| std::io::Error::from(e).to_string())?;
        Ok(Folder { fd, path: path.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the regular file at `path`, a relative path of names alone. The fault does not name the file.
    pub fn file(&self, path: &str) -> Result<File, String> {
        let names: Option<Vec<_>> = Path::new(path)
            .components()
            .map(|part| if let Component::Normal(name) = part { Some(name) } else { None })
            .collect();
        let Some((last, parents)) = names.as_deref().and_then(<[_]>::split_last) else {
            return Err("it leaves the bundle's folder".into());
        };
        let base = OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let parent = base | OFlags::PATH | OFlags::DIRECTORY;
        let mut at: Option<OwnedFd> = None;
        for name in parents {
            let from = at.as_ref().unwrap_or(&self.fd);
            let found = openat(from, *name, parent, Mode::empty());
            let found = found.map_err(|e| match e {
                // What O_NOFOLLOW says of a link depends on whether a folder is wanted.
                Errno::LOOP | Errno::NOTDIR => format!("{name:?} in its path is a link, or no folder"),
                other => std::io::Error::from(other).to_string(),
            })?;
            at = Some(found);
        }
        let flags = base | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = openat(at.as_ref().unwrap_or(&self.fd), *last, flags, Mode::empty());
        let file = file.map_err(|e| match e {
            Errno::LOOP => "it is a link, and must be a regular file".into(),
            Errno::NXIO => "it is a socket or a device, and must be a regular file".into(),
            other => std::io::Error::from(other).to_string(),
        })?;
        let stat = rustix::fs::fstat(&file).map_err(|e| std::io::Error::from(e).to_string())?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return Ok(File::from(file)),
            FileType::Directory => "a folder",
            FileType::Fifo => "a FIFO",
            FileType::CharacterDevice | FileType::BlockDevice => "a device",
            FileType::Socket => "a socket",
            _ => "something else",
        };
        Err(format!("it is {kind}, and must be a regular file"))
    }

    /// The bytes of a small file: at most `most` of them.
    pub fn read(&self, path: &str, most: u64) -> Result<Vec<u8>, String> {
        let file = self.file(path)?;
        let length = file.metadata().map_err(|e| e.to_string())?.len();
        let too_large = |n: u64| format!("it has {n} bytes, and at most {most} are read");
        if length > most {
            return Err(too_large(length));
        }
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        if bytes.len() as u64 > most { Err(too_large(bytes.len() as u64)) } else { Ok(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_regular_files_inside_the_folder_are_opened_and_nothing_waits() {
        let root = std::env::temp_dir().join(format!("infc-folder-{}", std::process::id()));
        std::fs::create_dir_all(root.join("bundle/models")).unwrap();
        std::fs::write(root.join("outside"), "secret").unwrap();
        std::fs::write(root.join("bundle/models/a"), "abc").unwrap();
        symlink("models/a", root.join("bundle/link")).unwrap();
        symlink("../outside", root.join("bundle/out")).unwrap();
        symlink("models", root.join("bundle/other")).unwrap();
        symlink("bundle", root.join("way")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, root.join("bundle/fifo"), Mode::RWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("bundle/socket")).unwrap();
        let folder = Folder::open(&root.join("way")).unwrap();
        assert_eq!(folder.read("models/a", 3).unwrap(), b"abc");
        for (path, part) in [
            ("link", "a link"),
            ("out", "a link"),
            ("other/a", "a link"),
            ("models", "a folder"),
            ("fifo", "a FIFO"),
            ("socket", "a socket"),
            ("models/a/b", "no folder"),
            ("../outside", "leaves"),
            ("/etc/passwd", "leaves"),
            ("", "leaves"),
            ("gone", "No such file"),
        ] {
            let fault = folder.read(path, 9).unwrap_err();
            assert!(fault.contains(part), "{path}: {fault}");
        }
        assert!(folder.read("models/a", 2).unwrap_err().contains("3 bytes, and at most 2"));
        std::fs::remove_dir_all(&root).unwrap();
    }
}
