//! [`Interests`]: the topics that each side wants, and those that both do.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::message::Name;
use super::scope::Scope;

/// What each side wants. The invariant: `both` is what both want, by what is known of the peer.
#[derive(Debug)]
pub(super) struct Interests {
    ours: Scope,
    /// The peer's, if it has said so.
    theirs: Option<Scope>,
    both: Scope,
    both_name: Name,
    /// Whether the peer has to be told what this side wants.
    take_unreported: bool,
}

impl Interests {
    /// With what the handshake has said: whether this side wants everything, and the same of the peer.
    pub(super) fn new(ours: Scope, (here, there): (bool, bool)) -> Self {
        let mut interests = Self {
            take_unreported: !(here && ours.is_everything()),
            ours,
            theirs: there.then(Scope::everything),
            both: Scope::from_filters([]),
            both_name: Name::default(),
        };
        interests.meet();
        interests
    }

    /// Works out what both want. Whether that has changed.
    fn meet(&mut self) -> bool {
        let Some(theirs) = &self.theirs else { return false };
        let both = self.ours.meet(theirs);
        let changed = both != self.both;
        self.both = both;
        self.both_name = self.both.name();
        changed
    }

    /// This side wants something else. Whether that changes what both want.
    pub(super) fn set_ours(&mut self, ours: Scope) -> bool {
        self.ours = ours;
        self.take_unreported = true;
        self.meet()
    }

    /// The peer has said what it wants. Whether that changes what both want.
    pub(super) fn set_theirs(&mut self, theirs: Scope) -> bool {
        self.theirs = Some(theirs);
        self.meet()
    }

    /// Whether both have said what they want.
    pub(super) const fn are_known(&self) -> bool {
        self.theirs.is_some()
    }

    /// What both want: nothing, before the peer has said what it does.
    pub(super) const fn both(&self) -> &Scope {
        &self.both
    }

    /// The name of that.
    pub(super) const fn both_name(&self) -> Name {
        self.both_name
    }

    /// Whether the peer has yet to be told what this side wants.
    pub(super) const fn are_untold(&self) -> bool {
        self.take_unreported
    }

    /// What the peer has to be told that this side wants, once.
    pub(super) fn take_untold(&mut self) -> Option<&Scope> {
        core::mem::take(&mut self.take_unreported).then_some(&self.ours)
    }
}
