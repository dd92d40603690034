//! One memory node: a file of shared memory, mapped.
//!
//! The file is the node's memory, rounded up to whole pages, and one page more that no verb
//! reaches: magic, size, and the word that declares the node dead in every process.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{fence, AtomicU64, Ordering};

use rustix::fs::{self, AtFlags, FallocateFlags, Mode, OFlags, CWD};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::process::{getrlimit, Resource};

use super::name;
use crate::{BusError, GlobalAddr, NodeId};

const PAGE: u64 = 4096;
const HUGE_PAGE: usize = 2 << 20;
const MAGIC: u64 = u64::from_le_bytes(*b"ARTNODE1");
/// Which word of the last page declares the node dead, if it is not 0.
const DEAD_WORD: usize = 2;

pub(super) fn refused(what: &str, path: &Path, errno: Errno) -> BusError {
    BusError::System(format!("cannot {what} {}: {errno}", path.display()))
}

/// Makes a node of at least `bytes` zeroed bytes. It has its name only once it is complete.
pub(super) fn create(pool: &str, node: NodeId, bytes: u64) -> Result<(), BusError> {
    let path = name::path(pool, node);
    if node.0 >= name::MAX_NODES || bytes == 0 || bytes > GlobalAddr::MAX_OFFSET - PAGE {
        return Err(BusError::System(format!(
            "node {} of {bytes} bytes: numbers go to {}, sizes from 1 to 2^48 - 2^13",
            node.0,
            name::MAX_NODES - 1
        )));
    }
    let bytes = bytes.next_multiple_of(PAGE);
    check_room(bytes + PAGE)?;
    // A nameless file: nothing is left behind if this process dies before the last step.
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = fs::open(name::DIRECTORY, flags, mode).map_err(|e| refused("create", &path, e))?;
    fs::fchmod(&file, mode).map_err(|e| refused("set the mode of", &path, e))?;
    fs::ftruncate(&file, bytes + PAGE).map_err(|e| refused("size", &path, e))?;
    let mut trailer = [0; 16];
    trailer[..8].copy_from_slice(&MAGIC.to_le_bytes());
    trailer[8..].copy_from_slice(&bytes.to_le_bytes());
    match rustix::io::pwrite(&file, &trailer, bytes) {
        Ok(16) => {}
        Ok(_) => return Err(refused("fill", &path, Errno::NOSPC)),
        Err(errno) => return Err(refused("fill", &path, errno)),
    }
    let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::linkat(CWD, nameless, CWD, &path, AtFlags::SYMLINK_FOLLOW)
        .map_err(|e| refused("name", &path, e))
}

/// Nodes are sparse: what others were promised but have not touched yet counts as taken, or a
/// client would get SIGBUS in the middle of a verb.
fn check_room(bytes: u64) -> Result<(), BusError> {
    let directory = Path::new(name::DIRECTORY);
    let space = fs::statvfs(directory).map_err(|e| refused("look at", directory, e))?;
    let free = space.f_bavail * space.f_frsize;
    let promised: u64 = name::all()?
        .into_iter()
        .filter_map(|(pool, node)| fs::stat(name::path(&pool, node)).ok())
        .map(|stat| (stat.st_size as u64).saturating_sub(stat.st_blocks as u64 * 512))
        .sum();
    if bytes > free.saturating_sub(promised) {
        return Err(BusError::System(format!(
            "a node of {bytes} bytes does not fit into {}: {free} bytes are free, of which \
             {promised} are promised to other nodes; ask for less or enlarge it",
            name::DIRECTORY
        )));
    }
    if let Some(limit) = getrlimit(Resource::Fsize).current.filter(|&limit| limit < bytes) {
        return Err(BusError::System(format!(
            "a node of {bytes} bytes exceeds the limit of {limit} bytes a file (ulimit -f)"
        )));
    }
    Ok(())
}

/// Declares the node dead for all processes, then gives its memory back. Needs no mapping.
pub(super) fn kill(pool: &str, node: NodeId) -> Result<(), BusError> {
    let path = name::path(pool, node);
    let (file, bytes) = open_file(&path)?.ok_or(BusError::NodeLost(node))?;
    let dead = bytes + 8 * DEAD_WORD as u64;
    rustix::io::pwrite(&file, &1_u64.to_le_bytes(), dead).map_err(|e| refused("mark", &path, e))?;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fs::fallocate(&file, punch, 0, bytes).map_err(|e| refused("empty", &path, e))
}

/// Takes the node's name away. Mappings stay, so declare it dead first.
pub(super) fn unlink(pool: &str, node: NodeId) -> Result<(), BusError> {
    let path = name::path(pool, node);
    fs::unlink(&path).map_err(|e| refused("remove", &path, e))
}

/// Maps a file of that length. Where it is large enough for huge pages it begins at one, as the
/// kernel maps such pages only where address and offset allow.
fn map(file: &OwnedFd, len: usize) -> Result<*mut u8, Errno> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    let anywhere = std::ptr::null_mut();
    if len < HUGE_PAGE {
        // SAFETY: a new mapping at an address of the kernel's choice touches nobody's memory.
        return unsafe { rustix::mm::mmap(anywhere, len, access, MapFlags::SHARED, file, 0) }
            .map(|base| base.cast());
    }
    let wide = len.checked_add(HUGE_PAGE).ok_or(Errno::NOMEM)?;
    let unused = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: as above; the second mapping replaces pages of the first, which is ours.
    unsafe {
        let start = rustix::mm::mmap_anonymous(anywhere, wide, ProtFlags::empty(), unused)?;
        let skip = start.addr().wrapping_neg() % HUGE_PAGE;
        let base = start.byte_add(skip);
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        let mapped = rustix::mm::mmap(base, len, access, flags, file, 0);
        if mapped.is_err() {
            let _ = rustix::mm::munmap(start, wide);
            return mapped.map(|base| base.cast());
        }
        // What is left around it; should the kernel refuse, some addresses stay taken.
        let end = len.next_multiple_of(PAGE as usize);
        for (at, len) in [(start, skip), (base.byte_add(end), wide - skip - end)] {
            if len > 0 {
                let _ = rustix::mm::munmap(at, len);
            }
        }
        mapped.map(|base| base.cast())
    }
}

/// A mapped node.
pub(super) struct Node {
    base: NonNull<u8>,
    bytes: u64,
}

// SAFETY: the mapping is not bound to a thread, and all access to it is atomic.
unsafe impl Send for Node {}
// SAFETY: as above.
unsafe impl Sync for Node {}

impl Node {
    /// Maps the node; `None` if there is no such file.
    pub(super) fn open(pool: &str, node: NodeId) -> Result<Option<Node>, BusError> {
        let path = name::path(pool, node);
        let Some((file, bytes)) = open_file(&path)? else { return Ok(None) };
        let len = (bytes + PAGE) as usize;
        let base = map(&file, len).map_err(|errno| {
            let limit = getrlimit(Resource::As).current;
            let limit = limit.map_or("none".to_owned(), |bytes| bytes.to_string());
            BusError::System(format!(
                "cannot map {len} bytes of {}: {errno} (limit of address space: {limit})",
                path.display()
            ))
        })?;
        let Some(base) = NonNull::new(base) else {
            return Err(refused("map", &path, Errno::FAULT));
        };
        let mapped = Node { base, bytes };
        let (magic, size) = (mapped.trailer(0), mapped.trailer(1));
        if (magic.load(Ordering::Acquire), size.load(Ordering::Acquire)) != (MAGIC, bytes) {
            return Err(BusError::System(format!(
                "{} is no memory node of this version: remove it",
                path.display()
            )));
        }
        Ok(Some(mapped))
    }

    /// Bytes that verbs may touch.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where `len` bytes at `offset` are; `None` outside the node.
    #[inline]
    pub(super) fn at(&self, offset: u64, len: u64) -> Option<NonNull<u8>> {
        let inside = offset <= self.bytes && len <= self.bytes - offset;
        // SAFETY: the mapping is at least `bytes` long.
        inside.then(|| unsafe { self.base.add(offset as usize) })
    }

    /// The word at `offset`; `None` outside the node or between two words.
    #[inline]
    pub(super) fn word(&self, offset: u64) -> Option<&AtomicU64> {
        if !offset.is_multiple_of(8) {
            return None;
        }
        // SAFETY: in bounds, aligned, and every access to shared memory is atomic.
        self.at(offset, 8).map(|at| unsafe { at.cast::<AtomicU64>().as_ref() })
    }

    fn trailer(&self, word: usize) -> &AtomicU64 {
        // SAFETY: the page behind the node's bytes is mapped, and page-aligned.
        unsafe { self.base.add(self.bytes as usize).cast::<AtomicU64>().add(word).as_ref() }
    }

    /// Whether the node was declared dead.
    #[inline]
    pub(super) fn is_dead(&self) -> bool {
        // What was read before must not be poison that this look does not know of.
        fence(Ordering::Acquire);
        self.trailer(DEAD_WORD).load(Ordering::Acquire) != 0
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let len = (self.bytes + PAGE) as usize;
        // SAFETY: the mapping is ours, and nobody who could reach it is left. Should the kernel
        // refuse, the mapping merely stays.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), len) };
    }
}

/// Opens a node's file and tells the node's size. The directory is everybody's: a file that another
/// user put there, or may write to, is refused.
fn open_file(path: &Path) -> Result<Option<(OwnedFd, u64)>, BusError> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match fs::open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(refused("open", path, errno)),
    };
    let stat = fs::fstat(&file).map_err(|e| refused("look at", path, e))?;
    let regular = fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::RegularFile;
    let ours = stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & 0o077 == 0;
    let len = stat.st_size as u64;
    if !regular || !ours || len < 2 * PAGE || !len.is_multiple_of(PAGE) {
        return Err(BusError::System(format!(
            "{} is no memory node of yours (mode {:o}, owner {}, {len} bytes): remove it",
            path.display(),
            stat.st_mode,
            stat.st_uid
        )));
    }
    Ok(Some((file, len - PAGE)))
}
