//! Finds lines in a slice, fast also when they are short.

/// Calls `each` with every line of `data`, newline included; returns where the unterminated rest begins.
///
/// `memchr` starts a search anew after each newline, which for lines of 64 bytes costs as much as
/// hashing them. This looks at 64 bytes at once and then walks the bits.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn each_line<'a>(data: &'a [u8], mut each: impl FnMut(&'a [u8])) -> usize {
    let (blocks, tail) = data.as_chunks::<64>();
    let mut start = 0;
    for (index, block) in blocks.iter().enumerate() {
        let mut newlines = newlines(block);
        while newlines != 0 {
            let end = index * 64 + newlines.trailing_zeros() as usize + 1;
            each(&data[start..end]);
            start = end;
            newlines &= newlines - 1;
        }
    }
    let tail_start = data.len() - tail.len();
    for (index, _) in tail.iter().enumerate().filter(|&(_, &byte)| byte == b'\n') {
        let end = tail_start + index + 1;
        each(&data[start..end]);
        start = end;
    }
    start
}

/// The same by `memchr`, where there is no SSE2.
#[cfg(not(target_arch = "x86_64"))]
pub fn each_line<'a>(data: &'a [u8], mut each: impl FnMut(&'a [u8])) -> usize {
    let mut start = 0;
    for newline in memchr::memchr_iter(b'\n', data) {
        each(&data[start..=newline]);
        start = newline + 1;
    }
    start
}

/// Bit i is set when byte i is a newline.
#[cfg(target_arch = "x86_64")]
#[inline]
fn newlines(block: &[u8; 64]) -> u64 {
    use std::arch::x86_64::{__m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8};
    let mut bits = 0;
    for (part, bytes) in block.as_chunks::<16>().0.iter().enumerate() {
        // SAFETY: SSE2 is part of x86_64; the unaligned load reads exactly the 16 bytes of `bytes`.
        let found = unsafe {
            let loaded = _mm_loadu_si128(bytes.as_ptr().cast::<__m128i>());
            _mm_movemask_epi8(_mm_cmpeq_epi8(loaded, _mm_set1_epi8(b'\n' as i8)))
        };
        bits |= u64::from(found as u32) << (16 * part);
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_what_a_plain_split_finds() {
        // Every position of newlines in a block and around its borders, by a small generator.
        let mut state = 1u64;
        for length in (0..200).chain([1000, 4096]) {
            for spread in [1, 2, 7, 64, 300] {
                let data: Vec<u8> = (0..length)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        if (state >> 33).is_multiple_of(spread) { b'\n' } else { 0x80 | (state >> 40) as u8 }
                    })
                    .collect();
                let mut found = Vec::new();
                let rest = each_line(&data, |line| found.push(line));
                let mut expected: Vec<&[u8]> = data.split_inclusive(|&byte| byte == b'\n').collect();
                let last = expected.pop_if(|line| !line.ends_with(b"\n")).unwrap_or_default();
                assert_eq!((found, &data[rest..]), (expected, last));
            }
        }
    }
}
