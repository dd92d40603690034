//! How the system schedules the calling thread.

/// Attributes as `sched_setattr(2)` takes them, in their first version.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Asks for a nice value (none: as it is) and, from Linux 6.12 on, for slices of `slice_ns` (0: the
/// system's): with short ones a thread that has slept comes before threads that compute for long.
/// Whether the system agreed.
pub fn set_schedule(nice: Option<i32>, slice_ns: u64) -> bool {
    let nice = nice.unwrap_or_else(own_nice);
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        nice,
        runtime: slice_ns,
        ..SchedAttr::default()
    };
    // SAFETY: `attr` is of the size that it says; 0 is the calling thread.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &attr, 0) == 0 }
}

/// The nice value of the calling thread.
pub fn own_nice() -> i32 {
    // SAFETY: no memory is involved; 0 is the calling thread. It cannot fail for that.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// Processor time of the calling thread so far.
pub fn thread_cpu_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable memory of that type.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_grows_and_niceness_may() {
        std::thread::spawn(|| {
            let before = thread_cpu_ns();
            let nice = (own_nice() + 3).min(19);
            assert!(set_schedule(Some(nice), 0), "more niceness is everybody's");
            assert!(set_schedule(None, 500_000));
            assert_eq!(own_nice(), nice);
            while thread_cpu_ns() == before {
                std::hint::spin_loop();
            }
        })
        .join()
        .unwrap();
    }
}
