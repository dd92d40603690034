//! Which instruction set the kernels use, found once at run time.

use std::sync::OnceLock;

/// Instruction sets with kernels of their own, weakest first: every set includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust, any processor.
    Portable,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ, VL with VNNI.
    Avx512,
    /// AVX-512 as above with BF16 (products of pairs of bf16).
    Avx512Bf16,
    /// AMX tiles for INT8 and BF16, with AVX-512 VBMI.
    Amx,
}

impl Isa {
    /// All sets, weakest first.
    pub const ALL: [Isa; 5] = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16, Isa::Amx];

    /// Lower-case name, as accepted by [`Isa::from_name`].
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Bf16 => "avx512bf16",
            Isa::Amx => "amx",
        }
    }

    /// The set called `name`, if there is one.
    pub fn from_name(name: &str) -> Option<Isa> {
        Isa::ALL.into_iter().find(|isa| isa.name() == name)
    }

    /// Whether this processor and operating system can run this set.
    pub fn is_available(self) -> bool {
        self <= strongest()
    }
}

/// The strongest set of this machine.
pub fn strongest() -> Isa {
    static STRONGEST: OnceLock<Isa> = OnceLock::new();
    *STRONGEST.get_or_init(detect)
}

/// Every set this machine can run, weakest first; tests compare kernels over it.
pub fn available() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available())
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Isa {
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    let avx512 = avx2
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni");
    let bf16 = avx512 && is_x86_feature_detected!("avx512bf16");
    let amx = bf16 && is_x86_feature_detected!("avx512vbmi");
    if amx && amx_permitted() {
        Isa::Amx
    } else if bf16 {
        Isa::Avx512Bf16
    } else if avx512 {
        Isa::Avx512
    } else if avx2 {
        Isa::Avx2
    } else {
        Isa::Portable
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Isa {
    Isa::Portable
}

/// Asks the CPU for AMX INT8 and BF16 and Linux for leave to use the tile registers.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn amx_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    const AMX_BF16_TILE_INT8: u32 = (1 << 22) | (1 << 24) | (1 << 25);
    let max_leaf = std::arch::x86_64::__cpuid(0).eax;
    if max_leaf < 7 {
        return false;
    }
    let features = std::arch::x86_64::__cpuid_count(7, 0).edx;
    if features & AMX_BF16_TILE_INT8 != AMX_BF16_TILE_INT8 {
        return false;
    }
    // SAFETY: arch_prctl with these arguments only changes this process's permission to use tile
    // data; kernels that do not know it return an error.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn amx_permitted() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_sets_are_ordered() {
        for isa in Isa::ALL {
            assert_eq!(Isa::from_name(isa.name()), Some(isa));
        }
        assert_eq!(Isa::from_name("sse"), None);
        assert!(Isa::Portable.is_available());
        assert!(available().all(|isa| isa <= strongest()));
    }
}
