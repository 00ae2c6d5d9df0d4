//! [`Interests`]: the topics that each side wants, and those that both do.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::scope::{Scope, ScopeName};

/// The scopes of both sides. The invariant: `both` is the common scope, as far as the peer's is known.
#[derive(Debug)]
pub(super) struct Interests {
    ours: Scope,
    /// The peer's, if it has said so.
    theirs: Option<Scope>,
    both: Scope,
    both_name: ScopeName,
    /// Whether the peer has yet to be told this side's scope.
    unreported: bool,
}

impl Interests {
    /// With the statements of the handshake: whether this side wants everything, and the same of the peer.
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

    /// Works out the common scope. Whether it has changed.
    fn meet(&mut self) -> bool {
        let Some(theirs) = &self.theirs else { return false };
        let both = self.ours.meet(theirs);
        let changed = both != self.both;
        self.both = both;
        self.both_name = self.both.name();
        changed
    }

    /// Sets this side's scope. Whether that changes the common one.
    pub(super) fn set_ours(&mut self, ours: Scope) -> bool {
        self.ours = ours;
        self.unreported = true;
        self.meet()
    }

    /// Sets the scope that the peer has stated. Whether that changes the common one.
    pub(super) fn set_theirs(&mut self, theirs: Scope) -> bool {
        self.theirs = Some(theirs);
        self.meet()
    }

    /// Whether both have stated their scopes.
    pub(super) const fn are_known(&self) -> bool {
        self.theirs.is_some()
    }

    /// The common scope: nothing, before the peer has stated its own.
    pub(super) const fn both(&self) -> &Scope {
        &self.both
    }

    /// The name of the common scope.
    pub(super) const fn both_name(&self) -> ScopeName {
        self.both_name
    }

    /// Whether the peer has yet to be told this side's scope.
    pub(super) const fn are_unreported(&self) -> bool {
        self.unreported
    }

    /// This side's scope, if the peer has yet to be told; once.
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
