//! Consilience.
#![cfg_attr(not(feature = "std"), no_std)]
pub use consilience_crdts as crdts;
