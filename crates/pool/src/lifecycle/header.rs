//! The header at the start of every node.
//!
//! ```text
//! 0 magic u64 | 8 version u32 | 12 node u16 | 14 nodes u16 | 16 pool id u64 | 24 node bytes u64
//! 32 replicas u8 | 33 region shift u8 | 34 block shift u8 | 35 0 | 36 clients u16 | 38 0 u16
//! 40 lease ms u32 | 44 0 u32 | 48 0 u64 | 56 checksum u64
//! ```

use crate::xxh3::xxh3_64;
use artesian_bus::{GlobalAddr, NodeId, Verb, Verbs};

use crate::config::PoolConfig;
use crate::error::{PoolError, Result};
use crate::object::word;

const MAGIC: u64 = u64::from_le_bytes(*b"artpool1");
/// Version of everything that lies in a pool; others are refused.
pub const VERSION: u32 = 1;
/// Bytes of the header that are in use.
pub(super) const BYTES: usize = 64;

/// The header of `node`.
pub(super) fn encode(config: &PoolConfig, node: NodeId) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..14].copy_from_slice(&node.0.to_le_bytes());
    bytes[14..16].copy_from_slice(&config.num_nodes.to_le_bytes());
    bytes[16..24].copy_from_slice(&config.pool_id.to_le_bytes());
    bytes[24..32].copy_from_slice(&config.node_bytes.to_le_bytes());
    bytes[32] = config.replicas;
    bytes[33] = config.region_shift;
    bytes[34] = config.block_shift;
    bytes[36..38].copy_from_slice(&config.max_clients.to_le_bytes());
    bytes[40..44].copy_from_slice(&config.lease_ms.to_le_bytes());
    let sum = xxh3_64(&bytes[..56]);
    bytes[56..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// The pool's numbers as the header in `bytes` of `node` has them, checked.
pub(super) fn decode(bytes: &[u8; BYTES], node: NodeId) -> Result<PoolConfig> {
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let number =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let refuse = |what: String| Err(PoolError::Invalid(format!("memory node {}: {what}", node.0)));
    if bytes.iter().all(|&byte| byte == 0) {
        return refuse("not a pool yet: create it, or wait until its creation is done".into());
    }
    if word(bytes, 0) != MAGIC {
        return refuse("not a pool: other bytes than a header at its start".into());
    }
    if number(8) != VERSION {
        let version = number(8);
        return refuse(format!("format version {version}; this program knows {VERSION} only"));
    }
    if word(bytes, 56) != xxh3_64(&bytes[..56]) {
        return refuse(
            "the header's checksum differs: damaged, or its creation was cut short".into(),
        );
    }
    if half(12) != node.0 {
        return refuse(format!("it was made as node {}", half(12)));
    }
    let config = PoolConfig {
        pool_id: word(bytes, 16),
        node_bytes: word(bytes, 24),
        num_nodes: half(14),
        replicas: bytes[32],
        region_shift: bytes[33],
        block_shift: bytes[34],
        max_clients: half(36),
        lease_ms: number(40),
    };
    config.validate()?;
    Ok(config)
}

/// Reads the header of `node`; the error says why it is none of a pool.
pub fn read_header(verbs: &dyn Verbs, node: NodeId) -> Result<PoolConfig> {
    let mut bytes = [0; BYTES];
    verbs.batch(&mut [Verb::read(GlobalAddr::new(node, 0), &mut bytes)])?;
    decode(&bytes, node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config() -> PoolConfig {
        PoolConfig { pool_id: 77, ..PoolConfig::for_size(64 << 20, 3, 2) }
    }

    #[test]
    fn comes_back_and_any_flipped_bit_is_noticed() {
        let mut bytes = encode(&config(), NodeId(2));
        assert_eq!(decode(&bytes, NodeId(2)).unwrap(), config());
        assert!(decode(&bytes, NodeId(1)).unwrap_err().to_string().contains("made as node 2"));
        for bit in 0..BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes, NodeId(2)).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes: [u8; 32], more: [u8; 32], signed: bool) {
            if signed {
                bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
                bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
                bytes[12..14].fill(0);
            }
            let mut whole = [0; BYTES];
            whole[..32].copy_from_slice(&bytes);
            whole[32..].copy_from_slice(&more);
            if signed {
                let sum = xxh3_64(&whole[..56]);
                whole[56..].copy_from_slice(&sum.to_le_bytes());
            }
            if let Ok(config) = decode(&whole, NodeId(0)) {
                prop_assert!(config.validate().is_ok());
            }
        }
    }
}
