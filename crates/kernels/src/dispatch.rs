//! Compiling one plain loop for every instruction set.

/// Defines `$name(isa, ...)`: the inlined function `$body`, compiled once for each instruction set
/// with its vector width. Bodies say themselves where they fuse (`mul_add`) and in which order they
/// add up, so that all sets give the same bits.
macro_rules! for_each_isa {
    ($(#[$doc:meta])*
     $visibility:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)? = $body:ident
    ) => {
        $(#[$doc])*
        $visibility fn $name(isa: $crate::isa::Isa, $($arg: $ty),*) $(-> $out)? {
            assert!(isa.is_available(), "{} is not available on this machine", isa.name());
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $ty),*) $(-> $out)? {
                    $body($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $out)? {
                    $body($($arg),*)
                }
                match isa {
                    $crate::isa::Isa::Amx
                    | $crate::isa::Isa::Avx512Bf16
                    | $crate::isa::Isa::Avx512 => {
                        // SAFETY: the set is available, as asserted above.
                        return unsafe { avx512($($arg),*) };
                    }
                    // SAFETY: the set is available, as asserted above.
                    $crate::isa::Isa::Avx2 => unsafe { return avx2($($arg),*) },
                    $crate::isa::Isa::Portable => {}
                }
            }
            $body($($arg),*)
        }
    };
}

pub(crate) use for_each_isa;
