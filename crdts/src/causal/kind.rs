//! Two things on which readers and the encoder of a form agree before its first byte: its kind, and when keys may share
//! prefixes.

/// The content of rows beside keys and dots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Stamps and values.
    #[default]
    Map = 0x11,
    /// Nothing.
    Set = 0x12,
}

/// Keys share a prefix with the key before only while the decoded bytes stay within this many times the bytes they came
/// from (and [`SHARING_FREE`] more), so that a few bytes cannot unfold into a flood of long keys.
const SHARING_RATIO: usize = 64;
const SHARING_FREE: usize = 4_096;

/// Whether a key may share a prefix with the one before: `decoded` bytes of keys and values came out of `encoded`.
#[inline]
pub(crate) const fn sharing_allowed(decoded: usize, encoded: usize) -> bool {
    decoded <= SHARING_FREE.saturating_add(encoded.saturating_mul(SHARING_RATIO))
}
