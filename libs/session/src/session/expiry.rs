//! What runs out, and what is done about it: connections and subscriptions that are granted for a time.
//!
//! Where the client renews, it has been told when, and is given a grace on top. Where the user's backend does, it is
//! asked when the time has come, again and again while it cannot be reached, but only one question at a time and only
//! within the grace.

use std::time::{Duration, Instant};

use tidings_core::{Channel, Payload};
use tidings_protocol::{CloseReason, reply::UnsubscribeReason};

use super::{Actions, Session, State, subscription::Stage};
use crate::{Action, Evidence, Expiry, Refusal, Renewal, RenewedBy, Rules};

/// The longest expiry that a client is told. SDKs count it in milliseconds, some in 32 bits.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The least that the backend renews something for, or it would be asked without end.
const SHORTEST: Duration = Duration::from_secs(1);

/// How often the backend is asked within the grace, if it cannot be reached.
const ATTEMPTS: u32 = 5;

/// A time that something is granted for.
#[derive(Debug)]
pub(super) struct Term {
    renewed_by: RenewedBy,
    ends: Instant,
    /// It is over then, if nothing happens; after the grace.
    over: Instant,
    /// The backend is asked then. `None`: never, or its answer is awaited.
    ask: Option<Instant>,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    Ask,
    Over,
}

impl Term {
    /// `None` where nothing runs out.
    pub(super) fn start(expiry: Option<Expiry>, rules: &Rules, now: Instant) -> Option<Self> {
        let Expiry { after, renewed_by } = expiry.filter(|_| !rules.insecure)?;
        let least = match renewed_by {
            RenewedBy::Backend if !after.is_zero() => SHORTEST,
            _ => Duration::ZERO,
        };
        let ends = now + after.clamp(least, LONGEST);
        Some(Self {
            renewed_by,
            ends,
            over: ends + rules.expired_grace,
            ask: (renewed_by == RenewedBy::Backend).then_some(ends),
        })
    }

    /// The user's backend is not there to be asked.
    pub(super) fn unasked(mut self) -> Self {
        self.ask = None;
        self
    }

    pub(super) fn renewed_by(&self) -> RenewedBy {
        self.renewed_by
    }

    /// What a client that has to renew by itself is told.
    pub(super) fn told(&self, now: Instant) -> Option<Duration> {
        (self.renewed_by == RenewedBy::Client).then(|| self.ends.saturating_duration_since(now))
    }

    /// Its time was over before it began.
    pub(super) fn is_past(&self, now: Instant) -> bool {
        now >= self.ends
    }

    pub(super) fn deadline(&self) -> Instant {
        self.ask.map_or(self.over, |ask| ask.min(self.over))
    }

    fn due(&mut self, rules: &Rules, now: Instant) -> Due {
        match self.ask {
            // If the process stood still, that has not used up the backend's time to answer.
            Some(at) if at == self.ends && now >= at => {
                self.over = now + rules.expired_grace;
                self.ask = None;
                Due::Ask
            }
            _ if now >= self.over => Due::Over,
            Some(at) if now >= at => {
                self.ask = None;
                Due::Ask
            }
            _ => Due::Nothing,
        }
    }

    /// The backend was asked and has not answered.
    fn awaits(&self) -> bool {
        self.renewed_by == RenewedBy::Backend && self.ask.is_none()
    }

    /// The backend could not be asked.
    fn again(&mut self, rules: &Rules, now: Instant) {
        self.ask = Some(now + rules.expired_grace / ATTEMPTS);
    }
}

impl Session {
    /// Does what is due of the connection's own term, and then of its subscriptions'.
    pub(super) fn expire(&mut self, now: Instant, out: &mut Actions) {
        let info = self.info();
        let State::Known(known) = &mut self.state else {
            return;
        };
        match known.term.as_mut().map(|term| term.due(&self.rules, now)) {
            Some(Due::Over) => return self.close(CloseReason::Expired, out),
            Some(Due::Ask) => out.push(Action::Renew { info }),
            Some(Due::Nothing) | None => {}
        }
        if self.next_expiry.is_some_and(|at| now >= at) {
            self.expire_subscriptions(now, out);
        }
    }

    fn expire_subscriptions(&mut self, now: Instant, out: &mut Actions) {
        let mut due = Vec::new();
        self.next_expiry = None;
        for (channel, subscription) in &mut self.subscriptions {
            let Some(term) = subscription.term_mut() else {
                continue;
            };
            let what = term.due(&self.rules, now);
            if what != Due::Nothing {
                due.push((channel.clone(), what));
            }
            if what != Due::Over {
                let next = term.deadline();
                self.next_expiry = Some(self.next_expiry.map_or(next, |at| at.min(next)));
            }
        }
        for (channel, what) in due {
            if what == Due::Over {
                self.subscription_over(&channel, out);
            } else {
                out.push(Action::Reauthorize {
                    id: 0,
                    info: self.info_in(&channel),
                    channel,
                    by: Evidence::Backend(Payload::default()),
                });
            }
            if self.is_closed() {
                return;
            }
        }
    }

    /// A client subscribes again by itself to what it has asked for; to what it has not, by connecting again.
    fn subscription_over(&mut self, channel: &Channel, out: &mut Actions) {
        self.lose(
            channel,
            UnsubscribeReason::EXPIRED,
            CloseReason::SubscriptionExpired,
            out,
        );
    }

    /// The user's backend has answered what becomes of the connection.
    pub(super) fn renewed(&mut self, result: Result<Renewal, Refusal>, now: Instant, out: &mut Actions) {
        let State::Known(known) = &mut self.state else {
            return;
        };
        let Some(term) = known.term.as_mut().filter(|term| term.awaits()) else {
            return; // somebody else was faster
        };
        match result {
            Ok(renewal) if renewal.expires_in.is_some_and(|it| it.is_zero()) => {
                self.close(CloseReason::Expired, out);
            }
            Ok(Renewal { expires_in, info }) => {
                known.info = info.unwrap_or_else(|| known.info.clone());
                let expiry = expires_in.map(|after| Expiry {
                    after,
                    renewed_by: RenewedBy::Backend,
                });
                known.term = Term::start(expiry, &self.rules, now).map(Box::new);
            }
            Err(refusal) if is_temporary(&refusal) => term.again(&self.rules, now),
            Err(Refusal::Close(reason)) => self.close(reason, out),
            Err(_) => self.close(CloseReason::Expired, out),
        }
    }

    /// The user's backend has answered what becomes of a subscription.
    pub(super) fn reauthorized(
        &mut self,
        channel: &Channel,
        result: Result<Box<crate::Grant>, Refusal>,
        now: Instant,
        out: &mut Actions,
    ) {
        // It may be gone, or another by now, which nobody has asked about.
        let asked = self
            .subscriptions
            .get_mut(channel)
            .and_then(|it| it.term_mut())
            .filter(|term| term.awaits());
        let Some(term) = asked else {
            return;
        };
        match result {
            Ok(grant) if grant.expiry.is_some_and(|it| it.after.is_zero()) => {
                self.subscription_over(channel, out);
            }
            Ok(grant) => self.prolong(channel, *grant, now),
            Err(refusal) if is_temporary(&refusal) => {
                term.again(&self.rules, now);
                let at = term.deadline();
                self.expires_at(at);
            }
            Err(Refusal::Close(reason)) => self.close(reason, out),
            Err(_) => self.subscription_over(channel, out),
        }
    }

    /// A subscription has this term from now on.
    pub(super) fn prolong(&mut self, channel: &Channel, grant: crate::Grant, now: Instant) {
        let term = self.term_in(channel, grant.expiry, now);
        let at = term.as_ref().map(Term::deadline);
        if let Some(Stage::Entered(entered)) = self.subscriptions.get_mut(channel).map(|it| &mut it.stage) {
            entered.renew(term, grant.info);
        }
        if let Some(at) = at {
            self.expires_at(at);
        }
    }

    /// The term of a subscription: one that the user's backend renews, where nobody has said how to ask it, ends.
    pub(super) fn term_in(&self, channel: &Channel, expiry: Option<Expiry>, now: Instant) -> Option<Term> {
        let term = Term::start(expiry, &self.rules, now)?;
        let namespace = self.rules.namespaces.of(channel);
        let asks = self.rules.backend.sub_refresh && namespace.is_some_and(|it| it.sub_refresh_proxy_enabled);
        Some(if asks { term } else { term.unasked() })
    }

    /// A subscription has something to do then.
    pub(super) fn expires_at(&mut self, at: Instant) {
        self.next_expiry = Some(self.next_expiry.map_or(at, |next| next.min(at)));
    }
}

/// Whether asking again may help.
fn is_temporary(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Unavailable => true,
        Refusal::Error(error) => error.temporary,
        Refusal::Expired | Refusal::Invalid | Refusal::Mismatch | Refusal::Close(_) => false,
    }
}
