//! [`VerifyBudget`]: how many signatures a peer may cause to be checked.

/// A peer's allowance of signature checks: one for each 128 bytes received, and 128 ahead.
///
/// A check costs far more than reading a small message, so a peer that sends many of those could otherwise
/// cause work out of all proportion. A check whose signature was good and brought entries that were not here is free:
/// that is a writer at work. With entries of one byte, each under a head of its own, it gets a check for 71 bytes.
///
/// One for each session; the caller that hands messages in notes the bytes of each with [`received`](Self::received)
/// directly before it. Not those of a frame that holds many: allowance beyond the 128 checks does not pile up, so most of
/// a long frame would pay for nothing.
#[derive(Clone, Debug)]
pub struct VerifyBudget {
    /// In bytes.
    credit: u32,
    checks: u64,
    unlimited: bool,
    sparing: bool,
}

impl VerifyBudget {
    /// How many received bytes pay for a check.
    pub const BYTES_PER_CHECK: u32 = 128;
    const CREDIT_MAX: u32 = 128 * Self::BYTES_PER_CHECK;

    /// With 128 checks ahead.
    #[must_use]
    pub const fn new() -> Self {
        Self { credit: Self::CREDIT_MAX, checks: 0, unlimited: false, sparing: false }
    }

    /// As [`new`](Self::new), and no check is made of a head whose entries are all here under a later head: nothing of such a
    /// range is taken in, whoever signed it. A peer that is a step behind another sends many of those. Without this they are
    /// checked all the same, and one that was changed on its way is told.
    #[must_use]
    pub const fn sparing() -> Self {
        Self { sparing: true, ..Self::new() }
    }

    pub(crate) const fn is_sparing(&self) -> bool {
        self.sparing
    }

    /// Without a limit: for bytes from one's own storage, never for a peer.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self { unlimited: true, ..Self::new() }
    }

    /// Whether it has no limit.
    pub(crate) const fn is_unlimited(&self) -> bool {
        self.unlimited
    }

    /// Notes that so many bytes came from the peer, whatever they are: those of one message, before it is handled.
    pub fn received(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.credit = self.credit.saturating_add(bytes).min(Self::CREDIT_MAX);
    }

    /// How many signatures were checked for this peer.
    #[must_use]
    pub const fn checks(&self) -> u64 {
        self.checks
    }

    /// Pays for `checks` checks; false if there is not enough.
    pub(crate) const fn spend(&mut self, checks: u32) -> bool {
        let price = checks.saturating_mul(Self::BYTES_PER_CHECK);
        if !self.unlimited {
            let Some(credit) = self.credit.checked_sub(price) else { return false };
            self.credit = credit;
        }
        self.checks += checks as u64;
        true
    }

    /// Gives the price of all checks back that were made since there were so many.
    pub(crate) fn refund_since(&mut self, checks: u64) {
        self.refund(u32::try_from(self.checks.saturating_sub(checks)).unwrap_or(0));
    }

    /// Gives the price of checks back that were worth it.
    pub(crate) fn refund(&mut self, checks: u32) {
        let price = checks.saturating_mul(Self::BYTES_PER_CHECK);
        self.credit = self.credit.saturating_add(price).min(Self::CREDIT_MAX);
    }
}

impl Default for VerifyBudget {
    fn default() -> Self {
        Self::new()
    }
}
