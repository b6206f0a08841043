//! What this gateway's subscribers have been told of others' coming and going, so that they can be told what they missed.
//!
//! Joins and leaves are at most once on the bus: what is announced while a gateway is not subscribed is lost. So of each
//! channel in which somebody here wants them the gateway remembers whom its subscribers know of, and after a gap of the bus, or when
//! presence has another store because Redis may have lost some, compares that
//! once with whom presence has announced: the joins and leaves in between are told then, to its own subscribers. What comes
//! twice, because Redis went back in time, is told once. Of channels with more members than presence compares nothing is
//! remembered; there, what is missed is missed.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tidings_core::{Channel, ClientId, ClientInfo};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    grpc::{Announced, Client, Error},
    timely,
};
use crate::notice::Event;

/// How many channels are compared at the same time.
const AT_ONCE: usize = 16;

/// After how long a channel is compared again that could not be, or whose members are not all reported yet.
const AGAIN: Duration = Duration::from_secs(1);

/// The most members that are remembered, in all channels together.
const MEMBERS: usize = 200_000;

/// The most members of one channel that are remembered: presence compares no larger one.
const CHANNEL_MEMBERS: usize = 1_000;

/// The most joins and leaves that are remembered while a channel is compared; with more, it is compared again.
const MEANWHILE: usize = 2_000;

/// For how long something that was announced may be on its way; a bus that is slower is cut, which is a gap.
const ON_ITS_WAY: Duration = Duration::from_secs(10);

/// Whoever is announced once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    User(Arc<str>),
    Client(ClientId),
}

impl Who {
    fn new(info: &ClientInfo, per_user: bool) -> Self {
        if per_user && !info.user.is_empty() {
            Self::User(info.user.clone())
        } else {
            Self::Client(info.client)
        }
    }
}

/// The channels in which somebody here wants joins and leaves.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    state: Mutex<State>,
    work: Notify,
}

#[derive(Debug, Default)]
struct State {
    channels: HashMap<Channel, Followers>,
    /// Those to be compared.
    queue: VecDeque<Channel>,
    /// Those to be compared again after a while.
    later: Vec<Channel>,
    /// How many members are remembered.
    members: usize,
}

#[derive(Debug, Default)]
struct Followers {
    /// How many want to be told.
    count: usize,
    /// Whom they know of; `None`: that is not known.
    known: Option<Known>,
    per_user: bool,
    queued: bool,
    /// What came since presence was asked; `None`: it is not being asked.
    meanwhile: Option<Vec<(Event, ClientInfo)>>,
}

/// Whom the subscribers of a channel know of.
#[derive(Debug)]
struct Known {
    members: HashMap<Who, Member>,
    /// Until when a leave of before may be on its way; a gap ends that.
    leaves_until: Instant,
}

/// Somebody whom they know of.
#[derive(Debug, Clone)]
struct Member {
    info: ClientInfo,
    /// They were told; otherwise it was there when the channel began to be followed, and its join may still be on its way.
    told: bool,
}

impl Followed {
    /// One more here wants the joins and leaves of a channel.
    pub(crate) fn follow(&self, channel: &Channel) {
        let mut state = self.state.lock();
        let followers = state.channels.entry(channel.clone()).or_default();
        followers.count += 1;
        if followers.count == 1 {
            state.enqueue(channel);
            self.work.notify_one();
        }
    }

    /// One of them wants them no more.
    pub(crate) fn unfollow(&self, channel: &Channel) {
        let mut state = self.state.lock();
        let Some(followers) = state.channels.get_mut(channel) else {
            return;
        };
        followers.count -= 1;
        if followers.count == 0 {
            state.forget(channel);
            state.channels.remove(channel);
        }
    }

    /// The bus, or presence, may have lost some.
    pub(crate) fn gap(&self) {
        let mut state = self.state.lock();
        let channels: Vec<Channel> = state.channels.keys().cloned().collect();
        for channel in &channels {
            state.enqueue(channel);
            if let Some(known) = state.channels.get_mut(channel).and_then(|it| it.known.as_mut()) {
                // What comes from now on may be of those whose coming was lost.
                known.leaves_until = Instant::now();
            }
        }
        self.work.notify_one();
    }

    /// Somebody came or left. Given to `tell`, unless the subscribers know it already.
    pub(crate) fn incoming(
        &self,
        channel: Channel,
        info: ClientInfo,
        event: Event,
        tell: impl Fn(Channel, ClientInfo, Event),
    ) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if let Some(followers) = state.channels.get_mut(&channel) {
            if let Some(meanwhile) = &mut followers.meanwhile
                && meanwhile.len() < MEANWHILE
            {
                meanwhile.push((event, info.clone()));
            }
            if let Some(known) = &mut followers.known {
                let before = known.members.len();
                let news = known.note(followers.per_user, event, &info);
                state.members = state.members + known.members.len() - before;
                state.enforce_bounds(&channel);
                if !news {
                    return;
                }
            }
        }
        // Under the lock: what is compared meanwhile is told before this or after it, as it is remembered.
        tell(channel, info, event);
    }

    /// Compares what has to be, for ever.
    pub(super) async fn run(&self, client: &Client, tell: impl Fn(Channel, ClientInfo, Event)) {
        let mut again = Instant::now() + AGAIN;
        loop {
            let some = self.state.lock().take(AT_ONCE);
            if some.is_empty() {
                tokio::select! {
                    () = self.work.notified() => {}
                    () = sleep_until(again) => {}
                }
            }
            if again <= Instant::now() {
                again = Instant::now() + AGAIN;
                let mut state = self.state.lock();
                for channel in std::mem::take(&mut state.later) {
                    state.enqueue(&channel);
                }
            }
            let asked = some.iter().map(|channel| timely(client.announced(channel)));
            let answers = join_all(asked).await;
            for (channel, answer) in some.into_iter().zip(answers) {
                self.answered(channel, answer, &tell);
            }
        }
    }

    fn answered(
        &self,
        channel: Channel,
        answer: Result<Announced, Error>,
        tell: &impl Fn(Channel, ClientInfo, Event),
    ) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(followers) = state.channels.get_mut(&channel) else {
            return;
        };
        // Not asked for these: the last has gone since, and others have come.
        let Some(meanwhile) = followers.meanwhile.take() else {
            return;
        };
        let answer = match answer {
            Ok(answer) if meanwhile.len() < MEANWHILE => answer,
            Ok(_) => return state.later.push(channel),
            Err(error) => {
                tracing::debug!(channel.name = %channel, %error, "whom presence has announced cannot be had; asking again");
                return state.later.push(channel);
            }
        };
        if answer.large {
            return state.forget(&channel);
        }
        let per_user = answer.per_user;
        let announced = answer.members.into_iter();
        let announced: HashMap<Who, ClientInfo> =
            announced.map(|info| (Who::new(&info, per_user), info)).collect();
        let Some(known) = followers
            .known
            .as_mut()
            .filter(|_| followers.per_user == per_user)
        else {
            // The beginning: what came meanwhile, some of which may be older than the answer, leads to what is now.
            let members = announced.into_iter();
            let mut known = Known {
                members: members
                    .map(|(who, info)| (who, Member { info, told: false }))
                    .collect(),
                leaves_until: Instant::now() + ON_ITS_WAY,
            };
            for (event, info) in &meanwhile {
                known.note(per_user, *event, info);
            }
            let now = known.members.len();
            let before = followers
                .known
                .replace(known)
                .map_or(0, |known| known.members.len());
            followers.per_user = per_user;
            state.members = state.members + now - before;
            state.enforce_bounds(&channel);
            return;
        };
        let known = &mut known.members;
        // Of whom something came meanwhile, all comes.
        let settled: HashSet<Who> = meanwhile
            .iter()
            .map(|(_, info)| Who::new(info, per_user))
            .collect();
        let before = known.len();
        let (mut came, mut left) = (Vec::new(), Vec::new());
        for (who, info) in &announced {
            if !known.contains_key(who) && !settled.contains(who) {
                came.push((who.clone(), info.clone()));
            }
        }
        if answer.complete {
            let missing = |who: &Who| !announced.contains_key(who) && !settled.contains(who);
            left.extend(known.extract_if(|who, _| missing(who)));
        }
        let told = |(who, info): &(Who, ClientInfo)| {
            (
                who.clone(),
                Member {
                    info: info.clone(),
                    told: true,
                },
            )
        };
        known.extend(came.iter().map(told));
        state.members = state.members + known.len() - before;
        state.enforce_bounds(&channel);
        if !answer.complete {
            state.later.push(channel.clone());
        }
        for (_, Member { info, .. }) in left {
            tell(channel.clone(), info, Event::Leave);
        }
        for (_, info) in came {
            tell(channel.clone(), info, Event::Join);
        }
    }
}

impl State {
    fn enqueue(&mut self, channel: &Channel) {
        if let Some(followers) = self.channels.get_mut(channel)
            && !std::mem::replace(&mut followers.queued, true)
        {
            self.queue.push_back(channel.clone());
        }
    }

    /// Some that are to be compared, of which presence is asked from now on.
    fn take(&mut self, most: usize) -> Vec<Channel> {
        let mut some = Vec::new();
        while some.len() < most
            && let Some(channel) = self.queue.pop_front()
        {
            if let Some(followers) = self.channels.get_mut(&channel)
                && std::mem::take(&mut followers.queued)
            {
                followers.meanwhile = Some(Vec::new());
                some.push(channel);
            }
        }
        some
    }

    /// Forgets whom the subscribers of a channel know of, if that has become more than may be remembered.
    fn enforce_bounds(&mut self, channel: &Channel) {
        let known = self.channels.get(channel).and_then(|it| it.known.as_ref());
        let members = known.map_or(0, |known| known.members.len());
        if members > CHANNEL_MEMBERS || self.members > MEMBERS {
            self.forget(channel);
        }
    }

    /// Forgets whom the subscribers of a channel know of.
    fn forget(&mut self, channel: &Channel) {
        let followers = self.channels.get_mut(channel);
        let known = followers.and_then(|followers| followers.known.take());
        self.members -= known.map_or(0, |known| known.members.len());
    }
}

impl Known {
    /// Remembers that somebody came or left; whether that is news.
    fn note(&mut self, per_user: bool, event: Event, info: &ClientInfo) -> bool {
        let who = Who::new(info, per_user);
        match event {
            Event::Join => {
                let member = Member {
                    info: info.clone(),
                    told: true,
                };
                self.members.insert(who, member).is_none_or(|before| !before.told)
            }
            // Who left just before the channel began to be followed is not known here, but to those who were there.
            Event::Leave => self.members.remove(&who).is_some() || Instant::now() < self.leaves_until,
        }
    }
}

#[cfg(test)]
mod tests;
