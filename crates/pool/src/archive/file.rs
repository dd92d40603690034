//! A file that appears whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::PoolError;

/// A file under a name of its own, removed unless it is [kept](NewFile::keep).
pub(super) struct NewFile {
    temporary: PathBuf,
    path: PathBuf,
    kept: bool,
}

/// An error about a file.
pub(super) fn error(path: &Path, error: &io::Error) -> PoolError {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull => "; make room, or save elsewhere",
        _ => "",
    };
    PoolError::Invalid(format!("{}: {error}{hint}", path.display()))
}

impl NewFile {
    /// Makes the file beside `path`, readable to its owner alone.
    pub fn create(path: &Path) -> io::Result<(NewFile, File)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        let mut attempt = 0;
        loop {
            let own = format!(".{name}.{}.{attempt}.tmp", std::process::id());
            let temporary = path.with_file_name(own);
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
            match file {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 64 => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
                Ok(file) => {
                    return Ok((NewFile { temporary, path: path.into(), kept: false }, file))
                }
            }
        }
    }

    /// Makes all its bytes durable, then gives it its name.
    pub fn keep(mut self, file: &File) -> io::Result<()> {
        file.sync_all()?;
        fs::rename(&self.temporary, &self.path)?;
        self.kept = true;
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(directory)?.sync_all()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            // Nobody is left to be told; a stale file does no harm.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
