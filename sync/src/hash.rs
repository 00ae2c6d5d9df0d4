//! [`Hash`], and the pattern of all public names that are a fixed number of bytes.
//!
//! Hashing itself stands where its keys are. The invariant: such a name is its bytes and nothing else, so equal bytes
//! are equal names.

/// Defines a public newtype of so many bytes: compared and ordered as bytes, shown by its first 8.
macro_rules! fixed_bytes {
    ($(#[$meta:meta])* $name:ident, $len:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// How many bytes it has.
            pub const LEN: usize = $len;

            /// From its bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(concat!(stringify!($name), "("))?;
                self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str(")")
            }
        }
    };
}

pub(crate) use fixed_bytes;

fixed_bytes! {
    /// 32 bytes of BLAKE3.
    Hash, 32
}
