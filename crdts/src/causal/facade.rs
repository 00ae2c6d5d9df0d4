//! The public methods that maps and sets have in common, written once: [`causal_collection`] gives a collection and its
//! delta type their constructors, joins, cursors and canonical bytes.

/// Implements the common part of a collection that holds a [`Causal`](super::Causal) in its field `causal`, and the
/// delta type that goes with it.
macro_rules! causal_collection {
    ($collection:ident, $delta:ident, $kind:expr) => {
        impl $collection {
            /// An empty collection.
            #[must_use]
            pub fn new() -> Self {
                Self::with_seed(0)
            }

            /// An empty collection whose index is keyed by `seed`: 64 random bits keep strangers from choosing keys
            /// that collide in it. The seed changes nothing that can be observed but time.
            #[must_use]
            pub fn with_seed(seed: u64) -> Self {
                Self { causal: $crate::causal::Causal::new($kind, seed) }
            }

            /// How many keys or elements there are.
            #[must_use]
            pub const fn len(&self) -> usize {
                self.causal.store.live_keys()
            }

            /// Whether there are none.
            #[must_use]
            pub const fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Joins a delta. Returns whether anything was new, so that a replica knows whether to send the delta on.
            pub fn merge(&mut self, delta: &$delta) -> bool {
                self.causal.merge_valid(&delta.bytes, &mut $crate::causal::Unobserved)
            }

            /// Decodes a delta or a state and joins it, without a copy in between.
            ///
            /// # Errors
            /// Anything but canonical bytes; nothing changed.
            pub fn merge_encoded(&mut self, bytes: &[u8]) -> Result<bool, $crate::DecodeError> {
                self.causal.merge(bytes, &mut $crate::causal::Unobserved)
            }

            /// Joins another replica's whole state. Returns whether anything was new.
            pub fn merge_state(&mut self, other: &Self) -> bool {
                self.causal.merge_valid(&other.causal.encode(), &mut $crate::causal::Unobserved)
            }

            /// Where this replica's changes stand now; [`delta_since`](Self::delta_since) gives the changes after it.
            #[must_use]
            pub const fn cursor(&self) -> $crate::Cursor {
                self.causal.cursor()
            }

            /// Everything that changed here since `cursor`, own writes and merged ones, joined into one delta. For
            /// the default cursor, and where the bounded changelog does not reach back far enough, it is the whole
            /// state.
            ///
            /// The cursor has to be one that this replica gave out.
            #[must_use]
            pub fn delta_since(&self, cursor: $crate::Cursor) -> $delta {
                $delta { bytes: self.causal.delta_since(cursor) }
            }

            /// The dots that have been seen here, live or not.
            #[must_use]
            pub fn context(&self) -> $crate::CausalContext {
                self.causal.context()
            }

            /// Live keys, live dots, heap bytes.
            #[must_use]
            pub fn stats(&self) -> $crate::Stats {
                self.causal.stats()
            }

            /// The whole state's canonical bytes: equal states have equal bytes, however they came about.
            #[must_use]
            pub fn encode(&self) -> alloc::vec::Vec<u8> {
                self.causal.encode()
            }

            /// Reads a state's bytes. (A delta's too: the state that has seen only that.)
            ///
            /// # Errors
            /// Anything but canonical bytes.
            pub fn decode(bytes: &[u8]) -> Result<Self, $crate::DecodeError> {
                Self::decode_with_seed(bytes, 0)
            }

            /// [`decode`](Self::decode) with the seed of [`with_seed`](Self::with_seed).
            ///
            /// # Errors
            /// Anything but canonical bytes.
            pub fn decode_with_seed(bytes: &[u8], seed: u64) -> Result<Self, $crate::DecodeError> {
                $crate::causal::Causal::decode($kind, seed, bytes).map(|causal| Self { causal })
            }
        }

        impl Default for $collection {
            fn default() -> Self {
                Self::new()
            }
        }

        /// Equal states: the same live writes and the same context.
        impl PartialEq for $collection {
            fn eq(&self, other: &Self) -> bool {
                self.encode() == other.encode()
            }
        }

        impl Eq for $collection {}

        impl core::fmt::Debug for $collection {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                let name = stringify!($collection);
                f.debug_struct(name).field("stats", &self.stats()).finish_non_exhaustive()
            }
        }

        /// Some of a collection's history: the effect of some writes and removals. Deltas merge into collections and
        /// join with one another, in any order and any number of times. Holds its canonical bytes.
        #[derive(Clone, PartialEq, Eq, Hash)]
        pub struct $delta {
            bytes: alloc::vec::Vec<u8>,
        }

        impl $delta {
            /// The canonical bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                &self.bytes
            }

            /// The canonical bytes.
            #[must_use]
            pub fn into_bytes(self) -> alloc::vec::Vec<u8> {
                self.bytes
            }

            /// A copy of the canonical bytes.
            #[must_use]
            pub fn encode(&self) -> alloc::vec::Vec<u8> {
                self.bytes.clone()
            }

            /// Checks and keeps canonical bytes, of a delta or of a state.
            ///
            /// # Errors
            /// Anything but canonical bytes.
            pub fn decode(bytes: &[u8]) -> Result<Self, $crate::DecodeError> {
                $crate::causal::validate($kind, bytes)?;
                Ok(Self { bytes: bytes.into() })
            }

            /// Whether the delta is about no dot.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                // A kind, no actors, no rows.
                self.bytes.len() == 3
            }

            /// The join of two deltas: merging it does the same as merging both.
            #[must_use]
            pub fn join(&self, other: &Self) -> Self {
                let mut joined = $crate::causal::Causal::new($kind, 0);
                for delta in [self, other] {
                    joined.merge_valid(&delta.bytes, &mut $crate::causal::Unobserved);
                }
                Self { bytes: joined.encode() }
            }
        }

        impl core::fmt::Debug for $delta {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{}({} bytes)", stringify!($delta), self.bytes.len())
            }
        }

        $crate::bytes::serde_as_canonical_bytes!($collection);
        $crate::bytes::serde_as_canonical_bytes!($delta);
    };
}
pub(crate) use causal_collection;
