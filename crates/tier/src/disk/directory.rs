//! The directory of a disk tier: its format, its lock, the names of its segments.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{flock, FlockOperation};

use super::record::State;
use super::segment::{Segment, EXTENSION};
use crate::error::{Context, Result, TierError};

/// The file that says what the directory is; also what is locked.
const FORMAT_NAME: &str = "FORMAT";
const FORMAT: &str = "artesian disk tier 2\n";
/// What earlier versions wrote begins like this.
const ANY_FORMAT: &str = "artesian disk tier ";

/// An open directory.
pub struct Directory {
    path: PathBuf,
    format: PathBuf,
    /// Differs between processes, and between two of one number.
    owner: u64,
}

impl Directory {
    /// Opens it, or makes it, readable for its owner alone.
    pub fn open(path: &Path) -> Result<Directory> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.context("create", path)?;
        let format = path.join(FORMAT_NAME);
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let owner = started.as_nanos() as u64 ^ u64::from(std::process::id()) << 44;
        let directory = Directory { path: path.to_owned(), format, owner };
        let mut file = directory.lock()?;
        let mut text = String::new();
        file.read_to_string(&mut text).context("read", &directory.format)?;
        if text.is_empty() && directory.others()?.is_empty() {
            file.write_all(FORMAT.as_bytes()).context("write", &directory.format)?;
        } else if text != FORMAT {
            let version = text.strip_prefix(ANY_FORMAT).map_or("", str::trim_ascii_end);
            let format = if version.is_empty() {
                String::new()
            } else {
                format!(", but of format {version}")
            };
            let path = path.display();
            let text = format!(
                "{path} is no disk tier of this version{format}: name an empty directory, or empty \
                 this one"
            );
            return Err(TierError::Invalid(text));
        }
        Ok(directory)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps all other threads and processes out while it lives.
    pub fn lock(&self) -> Result<File> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = file.open(&self.format).context("open", &self.format)?;
        flock(&file, FlockOperation::LockExclusive).context("lock", &self.format)?;
        Ok(file)
    }

    /// The name of this process's segment `number`.
    pub fn new_name(&self, number: u64) -> String {
        format!("{:016x}-{number:06}.{EXTENSION}", self.owner)
    }

    /// Of all segments.
    pub fn names(&self) -> Result<Vec<String>> {
        let suffix = format!(".{EXTENSION}");
        Ok(self.others()?.into_iter().filter(|name| name.ends_with(&suffix)).collect())
    }

    /// All files but the one that is locked.
    fn others(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).context("list", &self.path)? {
            let name = entry.context("list", &self.path)?.file_name();
            names.extend(name.into_string().ok().filter(|name| name != FORMAT_NAME));
        }
        Ok(names)
    }

    /// Deletes a segment in which nothing is left, on a look at all its records. The directory is
    /// locked, and nobody appends to it.
    pub fn remove_if_dead(&self, segment: &Segment) -> Result<bool> {
        let mut offset = 0;
        while let Some(header) = segment.header(offset)? {
            if header.state != State::Dead {
                return Ok(false);
            }
            offset += header.room();
        }
        match fs::remove_file(segment.path()) {
            // Somebody else's work.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
            outcome => outcome.context("delete", segment.path()).map(|()| true),
        }
    }
}
