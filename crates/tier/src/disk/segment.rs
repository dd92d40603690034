//! A file of records. One process appends to it; all read it, and take records away.

use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{fadvise, fallocate, flock, Advice, FallocateFlags, FlockOperation};

use super::record::{Header, State, HEADER_BYTES, PAGE, STATE};
use crate::error::{Context, Result};

/// How the names of segments end.
pub const EXTENSION: &str = "kv";

/// An open segment.
pub struct Segment {
    path: PathBuf,
    file: Arc<File>,
    /// Where the next record is looked for.
    end: u64,
    /// Records that were being written when they were seen.
    unfinished: Vec<u64>,
    /// This process made it: it appends, or has appended, to it.
    is_mine: bool,
}

impl Segment {
    /// A new one. Its lock, held until this process ends, tells the others that it is attended.
    pub fn create(path: PathBuf) -> Result<Segment> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600);
        let file = file.open(&path).context("create", &path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).context("lock", &path)?;
        Ok(Segment { path, file: Arc::new(file), end: 0, unfinished: Vec::new(), is_mine: true })
    }

    /// One that is there.
    pub fn open(path: PathBuf) -> Result<Segment> {
        let file = OpenOptions::new().read(true).write(true).open(&path).context("open", &path)?;
        Ok(Segment { path, file: Arc::new(file), end: 0, unfinished: Vec::new(), is_mine: false })
    }

    /// Bytes so far.
    pub fn end(&self) -> u64 {
        self.end
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn is_mine(&self) -> bool {
        self.is_mine
    }

    /// Whether its file is still in the directory.
    pub fn is_linked(&self) -> Result<bool> {
        Ok(self.file.metadata().context("look at", &self.path)?.nlink() > 0)
    }

    /// Whether the process that made it still runs: it may write records that it has begun.
    pub fn is_attended(&self) -> bool {
        if self.is_mine {
            return true;
        }
        match flock(&self.file, FlockOperation::NonBlockingLockShared) {
            // Given back at once: it is the next one's question too.
            Ok(()) => flock(&self.file, FlockOperation::Unlock).is_err(),
            Err(_) => true,
        }
    }

    /// Bytes that it takes on the disk: holes take none.
    pub fn allocated(&self) -> Result<u64> {
        Ok(self.file.metadata().context("look at", &self.path)?.blocks() * 512)
    }

    /// Takes room for a record behind the others. From here on it is in the file, unfinished.
    pub fn reserve(&mut self, header: &mut Header) -> Result<()> {
        header.offset = self.end;
        let room = header.room();
        match fallocate(&self.file, FallocateFlags::empty(), self.end, room) {
            // Some file systems cannot; then a full disk shows when the bytes are written.
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            outcome => outcome.context("make room in", &self.path),
        }?;
        self.file.write_all_at(&header.encode(), self.end).context("write", &self.path)?;
        self.end += room;
        Ok(())
    }

    /// For reads and writes of records.
    pub fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Reads on from where the last look ended; tells each record that has become readable.
    pub fn scan(&mut self, mut found: impl FnMut(Header)) -> Result<()> {
        let is_abandoned = !self.unfinished.is_empty() && !self.is_attended();
        let mut unfinished = std::mem::take(&mut self.unfinished);
        let mut kept = Vec::new();
        for at in unfinished.drain(..) {
            match self.header(at)? {
                Some(header) if header.state == State::Live => found(header),
                Some(header) if header.state == State::Writing && is_abandoned => {
                    take_away(&self.file, &header).context("write", &self.path)?;
                }
                Some(header) if header.state == State::Writing => kept.push(at),
                _ => {}
            }
        }
        self.unfinished = kept;
        while let Some(header) = self.header(self.end)? {
            let at = self.end;
            self.end += header.room();
            match header.state {
                State::Live => found(header),
                State::Writing => self.unfinished.push(at),
                State::Dead => {}
            }
        }
        Ok(())
    }

    /// The header at `offset`; `None` where no record begins.
    pub fn header(&self, offset: u64) -> Result<Option<Header>> {
        let mut bytes = [0; HEADER_BYTES];
        match self.file.read_exact_at(&mut bytes, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            outcome => outcome.context("read", &self.path)?,
        }
        Ok(Header::decode(&bytes, offset))
    }
}

/// Writes a record's bytes and makes it readable.
pub fn fill(file: &File, header: &Header, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, header.offset + PAGE)?;
    set_state(file, header, State::Live)
}

/// Says that the next bytes of a block, from `offset` on, will be read soon. Parts lie scattered
/// over a file when many blocks are read layer by layer, so that the system does not foresee them.
pub fn announce(file: &File, header: &Header, offset: u64, bytes: usize) {
    let bytes = (bytes as u64).min(header.bytes - offset.min(header.bytes));
    if let Some(bytes) = NonZeroU64::new(bytes) {
        // Only a hint: what comes of it shows when they are read.
        let start = header.offset + PAGE + offset;
        let _ = fadvise(file, start, Some(bytes), Advice::WillNeed);
    }
}

/// Makes a record unreadable and gives its room back; the header stays, so that those behind it are
/// found.
pub fn take_away(file: &File, header: &Header) -> io::Result<()> {
    set_state(file, header, State::Dead)?;
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match fallocate(file, flags, header.offset + PAGE, header.room() - PAGE) {
        // Where there are no holes, room comes back with the whole file; the bytes go now.
        Err(rustix::io::Errno::OPNOTSUPP) => {
            file.write_all_at(&vec![0; header.bytes as usize], header.offset + PAGE)
        }
        outcome => Ok(outcome?),
    }
}

fn set_state(file: &File, header: &Header, state: State) -> io::Result<()> {
    file.write_all_at(&(state as u64).to_le_bytes(), header.offset + STATE)
}
