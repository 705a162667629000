//! What this process holds of the machine's memory, and giving back what it does not use.
//!
//! Three programs of one file run beside the pods, mostly asleep; what they keep resident counts
//! three times. The figures behind each choice are in `benches/README.md`.

use std::{fs, ops::Range};

/// Free memory at the end of the heap beyond this goes back to the kernel at once.
#[cfg(target_env = "gnu")]
const TRIM_BYTES: libc::c_int = 128 * 1024;

/// One heap for all threads, which shrinks when its end is free (DEC-42).
///
/// glibc gives each thread that has to wait an arena of its own, up to eight per processor, and
/// none of them ever shrinks. Call it first thing, before any thread. Without effect elsewhere.
pub fn keep_heap_small() {
    #[cfg(target_env = "gnu")]
    #[expect(
        unsafe_code,
        reason = "there is no other way to set glibc's allocator up"
    )]
    // SAFETY: the calls change numbers inside the allocator, under its lock; refusing one, they
    // change nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_BYTES);
    }
}

/// Gives free memory of the heap back, and lets go of the program's code.
///
/// Starting touches code that never runs again, and the kernel maps sixteen pages for each one
/// touched. Code is not copied or written, so the pages stay in the page cache, where the next use
/// finds them at the cost of a fault without I/O; but they count for no process any more, and the
/// kernel may have them when memory is short. Blocks for milliseconds. What can't be given back
/// stays: nothing depends on it.
pub fn give_back() {
    trim_heap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let here = give_back as fn() as usize;
    for range in code(&maps, here) {
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        #[expect(unsafe_code, reason = "there is no safe madvise")]
        // SAFETY: the range is a mapping of our own program that can't be written to and that
        // nothing was ever written to. The next access reads the same bytes from the file again,
        // as after the kernel's own reclaim, which takes such pages whenever it likes.
        let advised =
            unsafe { rustix::mm::madvise(start, range.len(), rustix::mm::Advice::LinuxDontNeed) };
        // Refused, all stays as it was.
        let _ = advised;
    }
}

fn trim_heap() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "there is no other way to trim glibc's heap")]
    // SAFETY: only touches pages of the heap that no allocation uses, under the allocator's lock.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The mappings of the program that holds the address `here`, as far as they are as the file is:
/// its code, and the read-only data at the file's beginning. (Read-only data elsewhere may have
/// been written by relocation before it was protected.)
fn code(maps: &str, here: usize) -> Vec<Range<usize>> {
    let mappings: Vec<Mapping<'_>> = maps.lines().filter_map(parse).collect();
    let Some(own) = mappings.iter().find(|one| one.range.contains(&here)) else {
        return Vec::new();
    };
    let unwritten = |one: &&Mapping<'_>| {
        one.file == own.file
            && match one.permissions {
                "r-xp" => true,
                "r--p" => one.offset == 0,
                _ => false,
            }
    };
    let ranges = mappings.iter().filter(unwritten);
    ranges.map(|one| one.range.clone()).collect()
}

struct Mapping<'a> {
    range: Range<usize>,
    permissions: &'a str,
    offset: u64,
    /// Device and inode.
    file: (&'a str, &'a str),
}

/// One line, as proc(5) has it.
fn parse(line: &str) -> Option<Mapping<'_>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (permissions, offset) = (words.next()?, words.next()?);
    let file = (words.next()?, words.next()?);
    (file.1 != "0").then_some(())?;
    Some(Mapping {
        range: address(start)?..address(end)?,
        permissions,
        offset: u64::from_str_radix(offset, 16).ok()?,
        file,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
00400000-00600000 r--p 00000000 fe:00 77 /usr/bin/berth
00600000-00d00000 r-xp 00200000 fe:00 77 /usr/bin/berth
00d00000-00d40000 r--p 00900000 fe:00 77 /usr/bin/berth
00d40000-00d50000 rw-p 00940000 fe:00 77 /usr/bin/berth
01000000-01100000 rw-p 00000000 00:00 0 [heap]
7f000000-7f100000 r-xp 00000000 fe:00 78 /usr/lib/other.so
7ffe0000-7fff0000 r-xp 00000000 00:00 0 [vdso]
";

    #[test]
    fn only_what_is_as_the_file_is_may_be_dropped() {
        let found = code(MAPS, 0x0060_1234);
        assert_eq!(found, [0x0040_0000..0x0060_0000, 0x0060_0000..0x00d0_0000]);
        assert!(code(MAPS, 0x7ffe_0010).is_empty());
        assert!(code("no such line\n", 0).is_empty());
    }

    #[test]
    fn the_program_goes_on_without_its_code_in_memory() {
        keep_heap_small();
        let kept: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
        give_back();
        give_back();
        assert_eq!(kept.iter().map(String::len).sum::<usize>(), 38_890);
    }
}
