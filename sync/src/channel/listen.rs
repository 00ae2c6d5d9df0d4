//! [`Listen`]: the handshake of the side that was called.
//!
//! Anybody can repeat a hello of an earlier session, so a hello never takes the place of another, and none but a proof
//! decides whose it was. Each answer costs a signature; so while many hellos come that nobody proves ([`Calm`]), a hello is
//! answered only if it repeats the challenge of this one session, which none has that was made before.
//!
//! The invariant: at most [`ANSWERED_MAX`] hellos are remembered, each is answered under an ephemeral key of its own, and whoever is
//! no member causes at most [`Calm::UNPROVEN_MAX`] signatures, in all sessions together, as long as it does not pause.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::cipher::Secret;
use super::dial::{FORGOTTEN, refusal_of};
use super::error::{HandshakeError, Refusal};
use super::frame::{Kind, put_frame};
use super::handshake::{HelloName, Membership, NoHello, Secrets, SessionKeys, Terms, hello_name};
use super::protect::Opener;
use super::resumption::{Resumed, ResumptionId, Resumptions};
use super::{HANDSHAKE_MS, NotTaken};
use crate::identity::{AgentId, SignError, Signature};
use consilience_base::Timestamp;
use consilience_base::planted::{Fault, planted};

/// Hellos that a session waits for the proof of; the oldest go first.
const ANSWERED_MAX: usize = 4;

/// Hellos that wait to be told the challenge; the oldest go first, and are sent again.
const CHALLENGED_MAX: usize = 16;
/// Hellos of another mesh, and those that resume what is not remembered, that wait to be told so; the oldest go first.
const REFUSED_MAX: usize = 4;
/// A listener that was called from another mesh waits so long for a call from its own, in milliseconds: somebody may have
/// changed the hello on the way, and it comes again.
const STRANGE_MS: u64 = 1_000;
/// A session signs at most so many answers: hellos that were made for it can be recorded and repeated as well.
const SIGNED_MAX: u32 = 32;

/// How many hellos were answered, in all sessions, that nobody has proved: what a listener spends before it asks for more
/// than a hello.
#[derive(Debug, Default)]
pub(crate) struct Calm {
    unproven: u32,
    /// When the last hello came that repeats no challenge.
    last: u64,
}

impl Calm {
    /// So many are answered at once.
    pub(crate) const UNPROVEN_MAX: u32 = 8;
    /// They are forgotten once no further hello without a challenge came for so long, in milliseconds: a handshake that was
    /// to be proved is over by then.
    const PAUSE_MS: u64 = HANDSHAKE_MS;

    /// Takes in a hello that repeats no challenge. Whether it may be answered.
    const fn allows(&mut self, ms: u64) -> bool {
        if ms >= self.last.saturating_add(Self::PAUSE_MS) {
            self.unproven = 0;
        }
        self.last = ms;
        self.unproven < Self::UNPROVEN_MAX
    }

    /// Notes that such a hello was answered.
    const fn answered(&mut self) {
        self.unproven = self.unproven.saturating_add(1);
    }

    /// Notes that one of them was proved.
    const fn proved(&mut self) {
        self.unproven = self.unproven.saturating_sub(1);
    }
}

/// It waits for a hello, and for the proof of one that it has answered.
#[derive(Debug)]
pub(crate) struct Listen {
    answered: Vec<Answered>,
    /// Of this session alone.
    challenge: [u8; 16],
    /// The hellos that have to be sent again with it.
    challenged: VecDeque<HelloName>,
    /// The hellos that have to be refused, and the reasons.
    refused: VecDeque<(HelloName, u8)>,
    /// When it gives up since it was called from another mesh, unless it answers a call.
    strange_until: Option<u64>,
    /// How many answers were signed.
    signed: u32,
    deadline: u64,
}

/// A hello that was answered.
#[derive(Debug)]
struct Answered {
    hello: HelloName,
    theirs: Terms,
    /// Whose it is and what it resumes, if it does.
    resumed: Option<Resumed>,
    /// Whether it repeats the challenge.
    challenged: bool,
    answer: Vec<u8>,
    secrets: Secrets,
    due: bool,
    /// Why the side that dials did not take the answer, if it said so.
    refused: Option<Refusal>,
}

/// A hello that was proved.
pub(crate) struct Proven<'a> {
    pub(crate) hello: HelloName,
    pub(crate) theirs: Terms,
    pub(crate) agent: AgentId,
    pub(crate) secrets: &'a Secrets,
    pub(crate) resumed: Option<Resumed>,
}

impl Listen {
    /// With a challenge that nobody can have known before.
    pub(crate) const fn new(challenge: [u8; 16], ms: u64) -> Self {
        Self {
            answered: Vec::new(),
            challenge,
            challenged: VecDeque::new(),
            refused: VecDeque::new(),
            strange_until: None,
            signed: 0,
            deadline: ms.saturating_add(HANDSHAKE_MS),
        }
    }

    /// Takes in a hello, to be answered by an agent with its terms and a secret that is drawn for it; or to be sent again
    /// with the challenge.
    ///
    /// # Errors
    ///
    /// Why it is not answered.
    pub(crate) fn handle_hello(
        &mut self,
        (membership, body): (&Membership, &[u8]),
        (agent, binding, terms): (&AgentId, Option<&[u8]>, Terms),
        (calm, resumptions): (&mut Calm, &Resumptions),
        (ms, now): (u64, Timestamp),
        draw: impl FnOnce() -> Secret,
        sign: impl FnOnce(&[u8]) -> Result<Signature, SignError>,
    ) -> Result<(), NotTaken> {
        let name = hello_name(body);
        if let Some(again) = self.answered.iter_mut().find(|answered| answered.hello == name) {
            again.due = true;
            return Ok(());
        }
        // A side that a member has called already tells nobody that something is wrong with the address.
        let others = !self.answered.is_empty();
        let mut resumed = None;
        let known = |id: &ResumptionId| {
            let (secret, whom) = resumptions.find(agent, id, now)?;
            resumed = Some(whom);
            Some(secret)
        };
        let called = match membership.read_hello(body, draw(), binding.unwrap_or_default(), known) {
            Ok(called) => called,
            Err(NoHello::Forgotten) => {
                remember(&mut self.refused, (name, FORGOTTEN), REFUSED_MAX);
                return Ok(());
            }
            Err(NoHello::Failed(HandshakeError::WrongMesh)) if !others => {
                remember(&mut self.refused, (name, Refusal::WrongMesh.code()), REFUSED_MAX);
                self.strange_until.get_or_insert(ms.saturating_add(STRANGE_MS));
                return Ok(());
            }
            Err(NoHello::Failed(_)) => return Err(NotTaken::NotAuthentic),
        };
        let (theirs, challenged) = (called.terms, called.challenge == Some(self.challenge));
        if !challenged && !calm.allows(ms) && !planted(Fault::HellosAreAnswered) {
            remember(&mut self.challenged, name, CHALLENGED_MAX);
            return Ok(());
        }
        if theirs.bound != binding.is_some() {
            let failed = NotTaken::Failed(HandshakeError::Binding, Some(name));
            return Err(if others { NotTaken::NotAuthentic } else { failed });
        }
        if self.signed >= SIGNED_MAX {
            return Err(NotTaken::NotAuthentic);
        }
        self.signed = self.signed.saturating_add(1);
        if !challenged {
            calm.answered();
        }
        let answer = Membership::answer(called, terms, binding.unwrap_or_default(), agent, sign);
        let (answer, secrets) = answer.map_err(|error| match error {
            HandshakeError::NotAMember => NotTaken::NotAuthentic,
            error => NotTaken::Failed(error, Some(name)),
        })?;
        if self.answered.len() >= ANSWERED_MAX {
            self.answered.remove(0);
        }
        self.answered.push(Answered {
            hello: name,
            theirs,
            resumed,
            challenged,
            answer,
            secrets,
            due: true,
            refused: None,
        });
        Ok(())
    }

    /// Reads the proof of one of the hellos.
    ///
    /// # Errors
    ///
    /// Why it was not taken in.
    pub(crate) fn handle_proof(&self, body: &[u8], calm: &mut Calm) -> Result<Proven<'_>, NotTaken> {
        for answered in self.answered.iter().filter(|answered| answered.resumed.is_none()) {
            match answered.secrets.read_proof(body) {
                Ok(agent) => return Ok(answered.proven(agent, calm)),
                Err(HandshakeError::NotAMember | HandshakeError::Decode(_)) => {}
                Err(error) => return Err(NotTaken::Failed(error, Some(answered.hello))),
            }
        }
        Err(NotTaken::NotAuthentic)
    }

    /// Reads the first data of a session that one of the hellos has resumed: who sends it knows what only the two remember, and
    /// has made its hello for this answer.
    pub(crate) fn handle_data(
        &self,
        own: &AgentId,
        body: &[u8],
        buffer: &mut Vec<u8>,
        calm: &mut Calm,
    ) -> Option<(Proven<'_>, SessionKeys)> {
        self.answered.iter().find_map(|answered| {
            let Resumed { peer, .. } = answered.resumed?;
            let keys = answered.secrets.keys(&peer, own);
            Opener::new(keys.of(true)).open(Kind::Data, body, buffer)?;
            Some((answered.proven(peer, calm), keys))
        })
    }

    /// Notes that somebody did not take an answer. Anybody who saw the hello could have said so, thus a proof is still
    /// waited for.
    pub(crate) fn handle_refusal(&mut self, body: &[u8]) {
        let Some((name, refusal)) = refusal_of(body) else { return };
        let of_them = self.answered.iter_mut().filter(|answered| answered.hello == name);
        of_them.for_each(|answered| answered.refused = Some(refusal));
    }

    /// Whether there is a hello that a proof may follow.
    pub(crate) const fn has_answered(&self) -> bool {
        !self.answered.is_empty()
    }

    /// Appends an answer, a refusal or a challenge, if one is due.
    pub(crate) fn poll_frame(&mut self, membership: &Membership, out: &mut Vec<u8>) -> bool {
        if let Some(due) = self.answered.iter_mut().find(|answered| answered.due) {
            due.due = false;
            put_frame(out, Kind::Answer, &due.answer);
            return true;
        }
        if let Some((hello, reason)) = self.refused.pop_front() {
            put_frame(out, Kind::Refusal, &Membership::refusal(&hello, reason));
            return true;
        }
        let Some(hello) = self.challenged.pop_front() else { return false };
        put_frame(out, Kind::Challenge, &membership.challenge(&hello, &self.challenge));
        true
    }

    /// When it has taken too long.
    pub(crate) fn deadline(&self) -> u64 {
        let strange = self.strange_until.filter(|_| !self.has_answered());
        strange.map_or(self.deadline, |until| until.min(self.deadline))
    }

    /// Whether all that has called so far is of another mesh.
    pub(crate) const fn is_strange(&self) -> bool {
        self.strange_until.is_some() && !self.has_answered()
    }

    /// Why the side that dialled last did not go on, if it said so.
    pub(crate) fn refused(&self) -> Option<Refusal> {
        self.answered.iter().rev().find_map(|answered| answered.refused)
    }
}

impl Answered {
    fn proven(&self, agent: AgentId, calm: &mut Calm) -> Proven<'_> {
        if !self.challenged {
            calm.proved();
        }
        let Self { hello, theirs, secrets, resumed, .. } = self;
        Proven { hello: *hello, theirs: *theirs, agent, secrets, resumed: *resumed }
    }
}

/// Puts a hello on a list of so many, where it is once.
fn remember<T: PartialEq>(hellos: &mut VecDeque<T>, hello: T, most: usize) {
    if hellos.contains(&hello) {
        return;
    }
    if hellos.len() >= most {
        hellos.pop_front();
    }
    hellos.push_back(hello);
}
