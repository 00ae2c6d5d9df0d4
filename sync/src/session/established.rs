//! [`Established`]: a session after its handshake: a channel, and the protocols that it carries.
//!
//! Here: which message goes to which protocol, which protocol may speak when the channel has room, and when a peer has too
//! many faults. The invariant: nothing waits here; messages that the channel gives are handled at once.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

use super::event::{EndReason, InputError, SessionEvent};
use crate::channel::{Agreed, Channel, Left, MessageError, PacketError, Proof, Protocol};
use crate::exchange::{Context, Exchange, Fault, Setup};
use crate::logset::LogSet;
use consilience_base::planted::{self, planted};

/// The protocol by which two log stores become equal.
const EXCHANGE: Protocol = Protocol::new(0);
/// A session ends after so many faults of its peer.
const FAULTS_MAX: u32 = 16;

/// A session that goes on.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) channel: Channel,
    pub(super) exchange: Exchange,
    /// Sent by the side that dials until the peer is heard.
    pub(super) proof: Option<Proof>,
    /// What is remembered of the peer once it is heard: then it has come to the same.
    pub(super) left: Option<Left>,
    faults: u32,
}

impl Established {
    pub(super) fn new(agreed: Agreed, setup: Setup, proof: Option<Proof>, left: Left, ms: u64) -> Self {
        let (channel, exchange) = (Channel::new(agreed, ms), Exchange::new(setup, ms));
        Self { channel, exchange, proof, left: Some(left), faults: 0 }
    }

    /// Takes in the body of a data frame, which is decrypted into a buffer. Gives why the session is over, if it is.
    ///
    /// # Errors
    ///
    /// [`InputError::NotAuthentic`]. Nothing changed.
    pub(super) fn handle_data(
        &mut self,
        body: &[u8],
        buffer: &mut Vec<u8>,
        cx: &mut Context<'_>,
        tell: &mut impl FnMut(SessionEvent),
    ) -> Result<Option<EndReason>, InputError> {
        // The exchange needs every message, so a single one is passed over. No other protocol is spoken yet.
        let malformed = match self.channel.handle_packet(body, buffer, cx.ms) {
            Ok(_) => None,
            Err(PacketError::NotAuthentic) => return Err(InputError::NotAuthentic),
            Err(PacketError::Malformed(error)) => Some(error),
        };
        self.proof = None;
        cx.written = self.channel.written();
        if let Some(error) = malformed {
            return Ok(self.note_fault(error.into(), tell).err());
        }
        if planted(planted::Fault::CreditByTheFrame) {
            self.exchange.received(body.len());
        }
        Ok(self.handle_messages(cx, tell).err())
    }

    fn handle_messages(
        &mut self,
        cx: &mut Context<'_>,
        tell: &mut impl FnMut(SessionEvent),
    ) -> Result<(), EndReason> {
        loop {
            let fault = match self.channel.next_message() {
                Ok(None) => return Ok(()),
                Ok(Some(message)) if message.protocol == EXCHANGE => {
                    // A message and its first byte pay for what they ask for.
                    if !planted(planted::Fault::CreditByTheFrame) {
                        self.exchange.received(message.body.len().saturating_add(1));
                    }
                    let handled = self.exchange.handle(message.kind, message.body, cx);
                    cx.notices.drain(..).for_each(|notice| tell(notice.into()));
                    handled.err()
                }
                Ok(Some(_)) => None,
                Err(MessageError::Malformed(error)) => Some(error.into()),
                Err(MessageError::Lost(error)) => {
                    self.note_fault(error.into(), tell)?;
                    return Err(EndReason::Misbehaved);
                }
            };
            if let Some(fault) = fault {
                self.note_fault(fault, tell)?;
            }
        }
    }

    /// Notes a fault of the peer.
    fn note_fault(&mut self, fault: Fault, tell: &mut impl FnMut(SessionEvent)) -> Result<(), EndReason> {
        self.faults = self.faults.saturating_add(1);
        tell(SessionEvent::Fault(fault));
        if self.faults >= FAULTS_MAX { Err(EndReason::Misbehaved) } else { Ok(()) }
    }

    /// Appends the next frame. False if there is nothing to send now.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        tell: &mut impl FnMut(SessionEvent),
        out: &mut Vec<u8>,
    ) -> bool {
        if self.proof.as_mut().is_some_and(|proof| proof.poll_frame(cx.ms, out)) {
            return true;
        }
        if self.channel.has_room() {
            cx.store.sign_heads(cx.now);
        }
        while self.channel.has_room() {
            cx.written = self.channel.written();
            let wrote = self.channel.write(EXCHANGE, |out| self.exchange.compose(cx, out));
            cx.notices.drain(..).for_each(|notice| tell(notice.into()));
            if !wrote {
                break;
            }
        }
        self.channel.poll_frame(cx.ms, out)
    }

    /// When there is something to do.
    pub(super) fn poll_timeout(&self) -> u64 {
        let proof = self.proof.as_ref().map_or(u64::MAX, Proof::poll_timeout);
        self.channel.poll_timeout().min(self.exchange.poll_timeout()).min(proof)
    }

    /// Takes in that time has passed. Gives a session event, if there is one.
    ///
    /// # Errors
    ///
    /// That the peer is gone.
    pub(super) fn handle_timeout(&mut self, ms: u64) -> Result<Option<SessionEvent>, EndReason> {
        if self.proof.as_ref().is_some_and(|proof| proof.is_over(ms)) || !self.channel.handle_timeout(ms) {
            return Err(EndReason::TimedOut);
        }
        Ok(self.exchange.handle_timeout(ms, self.channel.is_quiet()).map(SessionEvent::from))
    }

    /// Says again what waits, and compares: the path may be back.
    pub(super) fn nudge(&mut self, ms: u64) {
        if let Some(proof) = &mut self.proof {
            proof.nudge(ms);
        }
        self.channel.nudge(ms);
        self.exchange.nudge(ms);
    }

    /// Whether the two were equal and the peer has taken in all that this side has had to say since.
    pub(super) fn peer_has_all(&self, set: &mut LogSet) -> bool {
        self.channel.is_quiet() && self.exchange.is_spent(set)
    }

    /// About how many bytes it takes in memory.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>().saturating_add(self.channel.memory()).saturating_add(self.exchange.memory())
    }
}
