//! Blocks in files of a directory, which the processes of a host share.
//!
//! Every process appends to a segment of its own; all read all segments and may take blocks away,
//! which leaves a hole. So there is nothing to compact, and a record that is only half there, or
//! was damaged, costs no other one. The bound holds for all processes together: room is taken
//! under a lock on the directory, by what the files really take on the disk.
//!
//! Nothing is flushed: a process that dies loses nothing that it had saved, and what a crash of the
//! machine tears does not verify.

mod directory;
mod record;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use directory::Directory;
use record::{room, Header, State, PAGE};
use segment::Segment;

use crate::error::{Context, Result, TierError};
use crate::store::{Entry, Key, Loaded, Saved, Store, StoreStats};

/// Where, and how much.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// The directory; made if it is not there. Nothing else may be in it.
    pub path: PathBuf,
    /// Bytes of all segments together.
    pub capacity_bytes: u64,
    /// Bytes after which a process begins another segment.
    pub segment_bytes: u64,
    /// Bytes of a layer of a block, which can be loaded by itself.
    pub layer_bytes: u64,
}

/// See the module.
pub struct DiskStore {
    directory: Directory,
    options: DiskOptions,
    /// Locked before `known`, and while the disk is waited for.
    files: Mutex<Files>,
    /// Never locked while the disk is waited for: the engine asks here.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Files {
    segments: HashMap<String, Segment>,
    /// The segment that this process appends to.
    mine: Option<String>,
    num_segments: u64,
}

#[derive(Default)]
struct Known {
    blocks: HashMap<Key, Place>,
    /// Being saved by some thread of this process.
    saving: HashSet<Key>,
    /// With what the files took when that was looked at last.
    stats: StoreStats,
}

/// Where a block is.
#[derive(Clone)]
struct Place {
    file: Arc<File>,
    segment: Arc<str>,
    header: Header,
}

impl DiskStore {
    /// Opens the directory and learns what is in it.
    pub fn open(options: DiskOptions) -> Result<DiskStore> {
        if options.capacity_bytes < 2 * PAGE || options.segment_bytes < 2 * PAGE {
            let (capacity, segment) = (options.capacity_bytes, options.segment_bytes);
            let text = format!("{capacity} bytes in segments of {segment} hold no block");
            return Err(TierError::Invalid(text));
        }
        let directory = Directory::open(&options.path)?;
        let stats = StoreStats { capacity_bytes: options.capacity_bytes, ..StoreStats::default() };
        let known = Mutex::new(Known { stats, ..Known::default() });
        let store = DiskStore { directory, options, files: Mutex::default(), known };
        store.refresh()?;
        store.sweep_all()?;
        Ok(store)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.options.path
    }

    /// Deletes all segments in which nothing is left.
    fn sweep_all(&self) -> Result<()> {
        let _lock = self.directory.lock()?;
        let mut files = self.files.lock();
        let names: Vec<String> = files.segments.keys().cloned().collect();
        names.iter().try_for_each(|name| files.sweep(&self.directory, name))
    }

    /// Takes room for a block, and a handle of the file that it is in.
    fn reserve(&self, header: &mut Header) -> Result<Place> {
        let _lock = self.directory.lock()?;
        let mut files = self.files.lock();
        let (used, bytes) = (self.look(&mut files)?, header.room());
        if used + bytes > self.options.capacity_bytes {
            let capacity = self.options.capacity_bytes;
            return Err(TierError::Full { bytes, used, capacity });
        }
        let files = &mut *files;
        let is_full = |segment: &Segment| segment.end() + bytes > self.options.segment_bytes;
        let mine = files.mine.as_ref().and_then(|name| files.segments.get(name));
        if mine.is_some_and(is_full) {
            files.mine = None;
        }
        let name = match &files.mine {
            Some(name) => name.clone(),
            None => {
                let name = self.directory.new_name(files.num_segments);
                files.num_segments += 1;
                let segment = Segment::create(self.options.path.join(&name))?;
                files.segments.insert(name.clone(), segment);
                files.mine = Some(name.clone());
                name
            }
        };
        let Some(segment) = files.segments.get_mut(&name) else {
            return Err(TierError::Invalid(format!("segment {name} is not open")));
        };
        segment.reserve(header)?;
        self.known.lock().stats.used_bytes = used + bytes;
        Ok(Place { file: segment.file(), segment: name.into(), header: header.clone() })
    }

    /// A block does not verify: why, and away with it.
    fn give_up(&self, key: &Key, place: &Place) -> Result<Loaded> {
        {
            let blocks = &mut self.known.lock().blocks;
            if blocks.get(key).is_some_and(|known| known.header == place.header) {
                blocks.remove(key);
            }
        }
        let files = self.files.lock();
        let segment = files.segments.get(&*place.segment);
        let header = segment.map_or(Ok(None), |segment| segment.header(place.header.offset))?;
        let is_there = header.is_some_and(|header| header == place.header);
        if !is_there {
            self.known.lock().stats.num_vanished += 1;
            return Ok(Loaded::Vanished);
        }
        self.known.lock().stats.num_corrupt += 1;
        segment::take_away(&place.file, &place.header).context("write", self.path())?;
        Ok(Loaded::Corrupt)
    }
}

impl DiskStore {
    /// Opens segments that are new, forgets those that are gone, reads on in all. Returns what they
    /// take on the disk.
    fn look(&self, files: &mut Files) -> Result<u64> {
        for name in self.directory.names()? {
            if files.segments.contains_key(&name) {
                continue;
            }
            match Segment::open(self.directory.path().join(&name)) {
                Ok(segment) => drop(files.segments.insert(name, segment)),
                // Somebody was quicker to take it away.
                Err(TierError::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let mut gone = Vec::new();
        for (name, segment) in &mut files.segments {
            if !segment.is_linked()? {
                gone.push(name.clone());
                continue;
            }
            if segment.is_mine() {
                continue;
            }
            let (file, name) = (segment.file(), Arc::<str>::from(name.as_str()));
            segment.scan(|header| {
                let key = header.key;
                let place = Place { file: file.clone(), segment: name.clone(), header };
                self.known.lock().blocks.entry(key).or_insert(place);
            })?;
        }
        for name in gone {
            files.segments.remove(&name);
            self.known.lock().blocks.retain(|_, place| *place.segment != *name);
            if files.mine.as_ref() == Some(&name) {
                files.mine = None;
            }
        }
        let used = files.allocated()?;
        self.known.lock().stats.used_bytes = used;
        Ok(used)
    }
}

impl Files {
    /// Deletes a segment if nothing is left in it and nobody appends to it. The directory is
    /// locked.
    fn sweep(&mut self, directory: &Directory, name: &str) -> Result<()> {
        let Some(segment) = self.segments.get(name) else { return Ok(()) };
        let is_open = if segment.is_mine() {
            self.mine.as_deref() == Some(name)
        } else {
            segment.is_attended()
        };
        if !is_open && directory.remove_if_dead(segment)? {
            self.segments.remove(name);
        }
        Ok(())
    }

    fn allocated(&self) -> Result<u64> {
        self.segments.values().map(Segment::allocated).sum()
    }
}

impl Store for DiskStore {
    fn contains(&self, key: &Key) -> bool {
        self.known.lock().blocks.contains_key(key)
    }

    fn save(&self, key: &Key, bytes: &[u8]) -> Result<Saved> {
        {
            let mut known = self.known.lock();
            if known.blocks.contains_key(key) || !known.saving.insert(*key) {
                return Ok(Saved::Known);
            }
        }
        let outcome = self.save_new(key, bytes);
        let mut known = self.known.lock();
        known.saving.remove(key);
        match outcome {
            Ok(place) => {
                known.blocks.insert(*key, place);
                Ok(Saved::New)
            }
            Err(error) => {
                known.stats.num_failed_saves += u64::from(!matches!(error, TierError::Full { .. }));
                Err(error)
            }
        }
    }

    fn load(&self, key: &Key, into: &mut [u8]) -> Result<Loaded> {
        let Some(place) = self.place(key) else { return Ok(Loaded::Absent) };
        if place.header.bytes != into.len() as u64 {
            return self.give_up(key, &place);
        }
        self.read(key, &place, 0, into)
    }

    fn part_bytes(&self, key: &Key, block_bytes: usize) -> usize {
        match self.known.lock().blocks.get(key) {
            Some(place) if place.header.bytes == block_bytes as u64 => {
                place.header.part_bytes as usize
            }
            _ => block_bytes,
        }
    }

    fn stored_bytes(&self, key: &Key) -> Option<u64> {
        self.known.lock().blocks.get(key).map(|place| place.header.bytes)
    }

    fn load_part(&self, key: &Key, offset: usize, into: &mut [u8]) -> Result<Loaded> {
        let Some(place) = self.place(key) else { return Ok(Loaded::Absent) };
        if !place.header.has_parts(offset as u64, into.len() as u64) {
            let text = format!("{} bytes from {offset} on are no parts of a block", into.len());
            return Err(TierError::Invalid(text));
        }
        segment::announce(&place.file, &place.header, (offset + into.len()) as u64, into.len());
        self.read(key, &place, offset as u64, into)
    }

    fn remove(&self, key: &Key) -> Result<bool> {
        let _lock = self.directory.lock()?;
        let mut files = self.files.lock();
        let Some(place) = self.known.lock().blocks.remove(key) else { return Ok(false) };
        segment::take_away(&place.file, &place.header).context("write", self.path())?;
        let is_in_it = |other: &Place| other.segment == place.segment;
        if !self.known.lock().blocks.values().any(is_in_it) {
            files.sweep(&self.directory, &place.segment)?;
        }
        self.known.lock().stats.used_bytes = files.allocated()?;
        Ok(true)
    }

    fn refresh(&self) -> Result<()> {
        self.look(&mut self.files.lock()).map(drop)
    }

    fn entries(&self) -> Vec<Entry> {
        let entry = |place: &Place| {
            let header = &place.header;
            Entry { key: header.key, bytes: header.room(), saved_ms: header.saved_ms }
        };
        self.known.lock().blocks.values().map(entry).collect()
    }

    fn stats(&self) -> StoreStats {
        let known = self.known.lock();
        StoreStats { num_blocks: known.blocks.len() as u64, ..known.stats }
    }
}

impl DiskStore {
    fn place(&self, key: &Key) -> Option<Place> {
        self.known.lock().blocks.get(key).cloned()
    }

    /// Reads and verifies whole parts.
    fn read(&self, key: &Key, place: &Place, offset: u64, into: &mut [u8]) -> Result<Loaded> {
        let is_read = place.file.read_exact_at(into, place.header.offset + PAGE + offset).is_ok();
        if is_read && place.header.verifies(offset, into) {
            return Ok(Loaded::Hit);
        }
        self.give_up(key, place)
    }

    fn save_new(&self, key: &Key, bytes: &[u8]) -> Result<Place> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut header = Header::of(key, bytes, self.options.layer_bytes, now.as_millis() as u64);
        if room(header.bytes) > self.options.segment_bytes {
            let (bytes, limit) = (header.bytes, self.options.segment_bytes);
            let text = format!("a block of {bytes} bytes does not fit in segments of {limit}");
            return Err(TierError::Invalid(text));
        }
        let mut place = self.reserve(&mut header)?;
        if let Err(error) = segment::fill(&place.file, &header, bytes) {
            // Should this fail too, the record stays unreadable until this process ends.
            let _ = segment::take_away(&place.file, &header);
            return Err(error).context("write", self.path());
        }
        place.header.state = State::Live;
        Ok(place)
    }
}
