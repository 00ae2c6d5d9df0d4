//! [`Interests`]: the topics that each side wants, and those that both do.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::scope::{Scope, ScopeName};

/// What each side wants. The invariant: `both` is what both want, by what is known of the peer.
#[derive(Debug)]
pub(super) struct Interests {
    ours: Scope,
    /// The peer's, if it has said so.
    theirs: Option<Scope>,
    both: Scope,
    both_name: ScopeName,
    /// Whether the peer has to be told what this side wants.
    unreported: bool,
}

impl Interests {
    /// With what the handshake has said: whether this side wants everything, and the same of the peer.
    pub(super) fn new(ours: Scope, (here, there): (bool, bool)) -> Self {
        let mut interests = Self {
            unreported: !(here && ours.is_everything()),
            ours,
            theirs: there.then(Scope::everything),
            both: Scope::from_filters([]),
            both_name: ScopeName::default(),
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
        self.unreported = true;
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
    pub(super) const fn both_name(&self) -> ScopeName {
        self.both_name
    }

    /// Whether the peer has yet to be told what this side wants.
    pub(super) const fn are_unreported(&self) -> bool {
        self.unreported
    }

    /// What the peer has to be told that this side wants, once.
    pub(super) fn take_unreported(&mut self) -> Option<&Scope> {
        core::mem::take(&mut self.unreported).then_some(&self.ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(filters: &[&str]) -> Scope {
        Scope::of(filters).unwrap()
    }

    #[test]
    fn nothing_is_in_common_before_both_have_said_what_they_want() {
        let mut interests = Interests::new(scope(&["a", "b/*"]), (false, false));
        assert!(
            !interests.are_known() && !interests.both().matches(&crate::identity::Topic::new("a").unwrap())
        );
        assert_eq!(interests.take_unreported(), Some(&scope(&["a", "b/*"])));
        assert_eq!(interests.take_unreported(), None);
        assert!(interests.set_theirs(scope(&["b/c"])) && interests.are_known());
        assert_eq!(interests.both(), &scope(&["b/c"]));
        assert!(!interests.set_ours(scope(&["b/c", "d"])), "the same is in common");
        assert!(interests.set_ours(scope(&["d"])) && interests.are_unreported());
    }

    #[test]
    fn who_wants_everything_says_so_in_the_handshake() {
        let mut interests = Interests::new(Scope::everything(), (true, true));
        assert!(interests.are_known() && interests.both().is_everything());
        assert_eq!(interests.take_unreported(), None);
        // The host's gate lets the peer see less than the handshake has said.
        let mut gated = Interests::new(scope(&["a"]), (true, true));
        assert_eq!((gated.both(), gated.are_unreported()), (&scope(&["a"]), true));
        assert_eq!(gated.take_unreported(), Some(&scope(&["a"])));
    }
}
