//! [`Interests`]: the topics that each side wants, and those that both do.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::scope::{Scope, ScopeName};

/// The scopes of both sides. The invariant: `both` is the common scope, as far as the peer's is known.
#[derive(Debug)]
pub(super) struct Interests {
    /// The name of the scope that the host asked for.
    asked: ScopeName,
    /// As far as the host's gate lets the peer see it.
    ours: Scope,
    /// The peer's, if it has said so.
    theirs: Option<Scope>,
    /// The most wanted by the peer first, as it is what this side sends that has an order.
    both: Scope,
    both_name: ScopeName,
    /// The name of the last common scope of which it was looked whether the host has to be told.
    looked_at: Option<ScopeName>,
    /// Whether the peer has yet to be told this side's scope.
    unreported: bool,
}

impl Interests {
    /// Of the topics that the host asked for and, of those, the ones that the peer may see; and with the statements of the
    /// handshake: whether this side wants everything, and the same of the peer.
    pub(super) fn new(asked: &Scope, ours: Scope, (here, there): (bool, bool)) -> Self {
        let mut interests = Self {
            asked: asked.name(),
            unreported: !(here && ours.is_plain()),
            ours,
            theirs: there.then(Scope::everything),
            both: Scope::nothing(),
            both_name: ScopeName::default(),
            looked_at: None,
        };
        interests.meet();
        interests
    }

    /// Works out the common scope. Whether it is about other topics now.
    fn meet(&mut self) -> bool {
        let Some(theirs) = &self.theirs else { return false };
        self.both = theirs.meet(&self.ours);
        let name = self.both.name();
        name != core::mem::replace(&mut self.both_name, name)
    }

    /// Sets this side's scope: the topics that the host asks for, and of those the ones that the peer may see. Whether that
    /// changes the topics of the common one.
    pub(super) fn set_ours(&mut self, asked: &Scope, ours: Scope) -> bool {
        self.asked = asked.name();
        self.looked_at = None;
        self.ours = ours;
        self.unreported = true;
        self.meet()
    }

    /// Whether the host has to be told that the common scope has not all the topics that it asked for. Once for each common
    /// scope.
    pub(super) fn take_narrowed(&mut self) -> bool {
        let news = self.are_known() && self.looked_at.replace(self.both_name) != Some(self.both_name);
        news && self.both_name != self.asked
    }

    /// Sets the scope that the peer has stated. Whether that changes the topics of the common one.
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
        let asked = scope(&["a", "b/*"]);
        let mut interests = Interests::new(&asked, asked.clone(), (false, false));
        assert!(!interests.take_narrowed(), "nothing is known of the common scope yet");
        assert!(
            !interests.are_known() && !interests.both().matches(&crate::identity::Topic::new("a").unwrap())
        );
        assert_eq!(interests.take_unreported(), Some(&scope(&["a", "b/*"])));
        assert_eq!(interests.take_unreported(), None);
        assert!(interests.set_theirs(scope(&["b/c"])) && interests.are_known());
        assert_eq!(interests.both(), &scope(&["b/c"]));
        assert_eq!([(); 3].map(|()| interests.take_narrowed()), [true, false, false]);
        let asked = scope(&["b/c", "d"]);
        assert!(!interests.set_ours(&asked, asked.clone()), "the same is in common");
        assert!(interests.take_narrowed(), "the host has asked for other topics");
        assert!(!interests.set_ours(&scope(&["b/c"]), scope(&["b/c"])) && !interests.take_narrowed());
        assert!(interests.set_ours(&scope(&["d"]), scope(&["d"])) && interests.are_unreported());
    }

    #[test]
    fn the_peer_says_what_it_is_sent_first() {
        let asked = scope(&["a", "b", "*"]);
        let mut interests = Interests::new(&asked, asked.clone(), (false, true));
        assert_eq!(interests.both(), &asked, "the peer has no order");
        assert_eq!(interests.take_unreported(), Some(&asked), "an order has to be stated");
        assert!(!interests.set_theirs(scope(&["c", "b", "*"])), "they are the same topics");
        assert_eq!(interests.both(), &scope(&["c", "b", "a", "*"]));
        assert!(!interests.take_narrowed());
    }

    #[test]
    fn who_wants_everything_says_so_in_the_handshake() {
        let all = Scope::everything();
        let mut interests = Interests::new(&all, Scope::everything(), (true, true));
        assert!(interests.are_known() && interests.both().is_everything());
        assert_eq!(interests.take_unreported(), None);
        // The host's gate lets the peer see less than the handshake has said.
        let mut gated = Interests::new(&all, scope(&["a"]), (true, true));
        assert!(gated.take_narrowed(), "the host is told that its gate has left something out");
        assert_eq!((gated.both(), gated.are_unreported()), (&scope(&["a"]), true));
        assert_eq!(gated.take_unreported(), Some(&scope(&["a"])));
    }
}
