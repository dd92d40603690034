//! The file's header, and its blocks: a stream of bytes cut in pieces that are compressed and
//! checked one by one.
//!
//! ```text
//! header: magic "artarch1" | version u32, flags u32 | pool id u64 | saved, unix ms u64
//!         0 (24) | checksum u64
//! block:  bytes u32, stored u32 | number u64 | checksum u64 over the 16 before and what is stored
//!         | stored bytes, compressed by zstd unless `stored` equals `bytes`
//! ```

use std::io::{self, Read, Write};

use crate::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::VERSION;
use crate::object::word;

const MAGIC: &[u8; 8] = b"artarch1";
/// Bytes of the file's header.
pub(super) const HEADER_BYTES: usize = 64;
const BLOCK_HEAD: usize = 24;
/// Most bytes of a block before compression.
pub(super) const BLOCK_BYTES: usize = 1 << 20;
const FROZEN: u64 = 1;
/// zstd's level: fast, as memory is read faster than that.
const LEVEL: i32 = 1;

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub pool_id: u64,
    pub saved_unix_ms: u64,
    pub frozen: bool,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let flags = if self.frozen { FROZEN } else { 0 };
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&(u64::from(VERSION) | flags << 32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.pool_id.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.saved_unix_ms.to_le_bytes());
        let sum = xxh3_64(&bytes[..56]);
        bytes[56..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The header in `bytes`, or why it is none.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Header, String> {
        if &bytes[..8] != MAGIC {
            return Err("this is no snapshot file".into());
        }
        let version = word(bytes, 8) as u32;
        if version != VERSION {
            return Err(format!("format version {version}; this program knows {VERSION} only"));
        }
        if word(bytes, 56) != xxh3_64(&bytes[..56]) {
            return Err("the header's checksum differs".into());
        }
        Ok(Header {
            pool_id: word(bytes, 16),
            saved_unix_ms: word(bytes, 24),
            frozen: word(bytes, 8) >> 32 & FROZEN != 0,
        })
    }
}

fn checksum(head: &[u8], stored: &[u8]) -> u64 {
    xxh3_64_with_seed(stored, xxh3_64(head))
}

/// Cuts what is written into blocks.
pub(super) struct BlockWriter<W: Write> {
    into: W,
    block: Vec<u8>,
    number: u64,
    written: u64,
}

impl<W: Write> BlockWriter<W> {
    /// Writes the header.
    pub fn new(mut into: W, header: Header) -> io::Result<BlockWriter<W>> {
        into.write_all(&header.encode())?;
        let block = Vec::with_capacity(BLOCK_BYTES);
        Ok(BlockWriter { into, block, number: 0, written: HEADER_BYTES as u64 })
    }

    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (some, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(some);
            bytes = rest;
            if self.block.len() == BLOCK_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let packed = zstd::bulk::compress(&self.block, LEVEL)?;
        let stored = if packed.len() < self.block.len() { &packed } else { &self.block };
        let mut head = [0; BLOCK_HEAD];
        head[..4].copy_from_slice(&(self.block.len() as u32).to_le_bytes());
        head[4..8].copy_from_slice(&(stored.len() as u32).to_le_bytes());
        head[8..16].copy_from_slice(&self.number.to_le_bytes());
        let sum = checksum(&head[..16], stored);
        head[16..].copy_from_slice(&sum.to_le_bytes());
        self.into.write_all(&head)?;
        self.into.write_all(stored)?;
        self.number += 1;
        self.written += (BLOCK_HEAD + stored.len()) as u64;
        self.block.clear();
        Ok(())
    }

    /// Writes what is left; the file and its bytes.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        self.flush()?;
        self.into.flush()?;
        Ok((self.into, self.written))
    }
}

/// Puts blocks together again.
pub(super) struct BlockReader<R: Read> {
    from: R,
    block: Vec<u8>,
    at: usize,
    number: u64,
    /// Offset in the file of the block that is being read, and of the next one.
    start: u64,
    next: u64,
}

/// Why a file cannot be read, and where in it.
#[derive(Debug)]
pub(super) struct Fault {
    pub offset: u64,
    pub what: String,
}

impl<R: Read> BlockReader<R> {
    /// Reads the header.
    pub fn new(mut from: R) -> Result<(BlockReader<R>, Header), Fault> {
        let fault = |what| Fault { offset: 0, what };
        let mut bytes = [0; HEADER_BYTES];
        from.read_exact(&mut bytes).map_err(|error| fault(cut_short(&error, "the header")))?;
        let header = Header::decode(&bytes).map_err(fault)?;
        let (start, next) = (HEADER_BYTES as u64, HEADER_BYTES as u64);
        Ok((BlockReader { from, block: Vec::new(), at: 0, number: 0, start, next }, header))
    }

    /// Something is wrong in the block that is being read.
    pub fn fault(&self, what: impl Into<String>) -> Fault {
        Fault { offset: self.start, what: what.into() }
    }

    /// Where the next block starts: so many bytes have been read.
    pub fn offset(&self) -> u64 {
        self.next
    }

    /// Fills `into`.
    pub fn read(&mut self, mut into: &mut [u8]) -> Result<(), Fault> {
        while !into.is_empty() {
            if self.at == self.block.len() && !self.next_block()? {
                return Err(self.fault("the file ends in the middle: it was cut short"));
            }
            let count = into.len().min(self.block.len() - self.at);
            into[..count].copy_from_slice(&self.block[self.at..self.at + count]);
            self.at += count;
            into = &mut into[count..];
        }
        Ok(())
    }

    /// Whether nothing follows.
    pub fn is_at_end(&mut self) -> Result<bool, Fault> {
        Ok(self.at == self.block.len() && !self.next_block()?)
    }

    /// Reads the next block; false at the end of the file.
    fn next_block(&mut self) -> Result<bool, Fault> {
        self.start = self.next;
        let mut head = [0; BLOCK_HEAD];
        let got = read_up_to(&mut self.from, &mut head)
            .map_err(|error| self.fault(format!("it cannot be read: {error}")))?;
        if got == 0 {
            return Ok(false);
        }
        if got < BLOCK_HEAD {
            return Err(self.fault("the head of a block is cut short"));
        }
        let (bytes, stored) = (word(&head, 0) as u32 as usize, (word(&head, 0) >> 32) as usize);
        if bytes == 0 || bytes > BLOCK_BYTES || stored == 0 || stored > bytes {
            return Err(self.fault(format!("a block of {bytes} bytes stored in {stored}")));
        }
        if word(&head, 8) != self.number {
            let found = word(&head, 8);
            return Err(self.fault(format!("block {found} where {} should be", self.number)));
        }
        let mut packed = vec![0; stored];
        let got = read_up_to(&mut self.from, &mut packed)
            .map_err(|error| self.fault(format!("it cannot be read: {error}")))?;
        if got < stored {
            return Err(self.fault("a block is cut short"));
        }
        if word(&head, 16) != checksum(&head[..16], &packed) {
            return Err(self.fault("a block's checksum differs"));
        }
        self.block = if stored == bytes {
            packed
        } else {
            zstd::bulk::decompress(&packed, bytes)
                .map_err(|error| self.fault(format!("a block cannot be unpacked: {error}")))?
        };
        if self.block.len() != bytes {
            return Err(self.fault("a block unpacks to another length than it says"));
        }
        (self.at, self.number) = (0, self.number + 1);
        self.next += (BLOCK_HEAD + stored) as u64;
        Ok(true)
    }
}

fn cut_short(error: &io::Error, what: &str) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => format!("{what} is cut short"),
        _ => format!("it cannot be read: {error}"),
    }
}

/// Reads until `into` is full or the file ends; how many bytes there were.
fn read_up_to(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < into.len() {
        match from.read(&mut into[got..]) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}
