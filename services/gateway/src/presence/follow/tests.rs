//! What subscribers are told of joins and leaves, through gaps and late messages.

use std::cell::RefCell;

use bytes::Bytes;

use super::*;

/// What a gateway remembers of one channel, and what it has told.
struct Scene {
    followed: Followed,
    told: RefCell<Vec<(ClientId, Event)>>,
}

impl Scene {
    /// Its subscribers know of these.
    fn with(known: &[&ClientInfo]) -> Self {
        let scene = Self {
            followed: Followed::default(),
            told: RefCell::default(),
        };
        scene.followed.follow(&channel());
        scene.ask();
        scene.answer(known, true);
        assert_eq!(scene.told(), []);
        scene
    }

    /// Likewise, and nothing of before is on its way any more.
    async fn settled(known: &[&ClientInfo]) -> Self {
        let scene = Self::with(known);
        tokio::time::advance(ON_ITS_WAY).await;
        scene
    }

    fn ask(&self) {
        assert_eq!(self.followed.state.lock().take(AT_ONCE), [channel()]);
    }

    fn answer(&self, members: &[&ClientInfo], complete: bool) {
        let answer = Announced {
            members: members.iter().copied().cloned().collect(),
            per_user: false,
            large: false,
            complete,
        };
        self.followed
            .answered(channel(), Ok(answer), &|_, info, event| self.tell(&info, event));
    }

    fn incoming(&self, info: &ClientInfo, event: Event) {
        let tell = |_, info: ClientInfo, event| self.tell(&info, event);
        self.followed.incoming(channel(), info.clone(), event, tell);
    }

    fn tell(&self, info: &ClientInfo, event: Event) {
        self.told.borrow_mut().push((info.client, event));
    }

    fn told(&self) -> Vec<(ClientId, Event)> {
        self.told.take()
    }
}

fn channel() -> Channel {
    Channel::parse("tasks").unwrap()
}

fn somebody() -> ClientInfo {
    ClientInfo {
        user: "ada".into(),
        client: ClientId::random(),
        conn_info: Bytes::new(),
        chan_info: Bytes::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn joins_and_leaves_that_a_gap_swallowed_are_told_once_and_those_that_come_twice_once() {
    let (stays, leaves, comes) = (somebody(), somebody(), somebody());
    let scene = Scene::settled(&[&stays, &leaves]).await;
    scene.followed.gap();
    scene.ask();
    scene.answer(&[&stays, &comes], true);
    let missed = [(leaves.client, Event::Leave), (comes.client, Event::Join)];
    assert_eq!(scene.told(), missed);
    // They were only late, or Redis went back in time.
    scene.incoming(&leaves, Event::Leave);
    scene.incoming(&comes, Event::Join);
    assert_eq!(scene.told(), []);
    scene.incoming(&comes, Event::Leave);
    assert_eq!(scene.told(), [(comes.client, Event::Leave)]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_presence_is_asked_is_newer_than_its_answer() {
    let (comes, leaves) = (somebody(), somebody());
    let scene = Scene::settled(&[&leaves]).await;
    scene.followed.gap();
    scene.ask();
    scene.incoming(&comes, Event::Join);
    scene.incoming(&leaves, Event::Leave);
    assert_eq!(scene.told().len(), 2);
    scene.answer(&[&leaves], true);
    assert_eq!(scene.told(), []);
}

#[tokio::test(start_paused = true)]
async fn nobody_leaves_by_an_answer_in_which_some_gateways_are_missing() {
    let (stays, comes) = (somebody(), somebody());
    let scene = Scene::settled(&[&stays]).await;
    scene.followed.gap();
    scene.ask();
    scene.answer(&[&comes], false);
    assert_eq!(scene.told(), [(comes.client, Event::Join)]);
    assert_eq!(
        scene.followed.state.lock().later,
        [channel()],
        "it is asked again"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_remembered_of_a_channel_that_nobody_follows_any_more() {
    let scene = Scene::settled(&[&somebody(), &somebody()]).await;
    scene.followed.follow(&channel());
    scene.followed.unfollow(&channel());
    assert_eq!(scene.followed.state.lock().members, 2);
    scene.followed.unfollow(&channel());
    let state = scene.followed.state.lock();
    assert_eq!((state.members, state.channels.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_on_its_way_when_a_channel_began_to_be_followed_is_told_once() {
    let (came, left) = (somebody(), somebody());
    let scene = Scene::with(&[&came]);
    scene.incoming(&came, Event::Join);
    scene.incoming(&left, Event::Leave);
    assert_eq!(
        scene.told(),
        [(came.client, Event::Join), (left.client, Event::Leave)]
    );
    scene.incoming(&came, Event::Join);
    assert_eq!(scene.told(), []);
    scene.followed.gap();
    scene.ask();
    scene.answer(&[], true);
    scene.incoming(&came, Event::Leave);
    assert_eq!(scene.told(), [(came.client, Event::Leave)], "once");
    scene.incoming(&left, Event::Leave);
    assert_eq!(scene.told(), [], "perhaps it came within the gap");
}

#[tokio::test(start_paused = true)]
async fn joins_beyond_1000_members_of_a_channel_make_it_forgotten_and_are_still_sent() {
    let scene = Scene::settled(&[&somebody()]).await;
    for _ in 1..CHANNEL_MEMBERS {
        scene.incoming(&somebody(), Event::Join);
    }
    assert_eq!(scene.followed.state.lock().members, CHANNEL_MEMBERS);
    scene.incoming(&somebody(), Event::Join);
    assert_eq!(scene.told().len(), CHANNEL_MEMBERS);
    assert_eq!(scene.followed.state.lock().members, 0);
    scene.incoming(&somebody(), Event::Leave);
    assert_eq!(scene.told().len(), 1, "whom they know of is not known any more");
}

#[tokio::test(start_paused = true)]
async fn joins_beyond_the_bound_of_members_in_all_channels_are_not_remembered() {
    let scene = Scene::settled(&[]).await;
    scene.followed.state.lock().members = MEMBERS - 1; // of other channels
    scene.incoming(&somebody(), Event::Join);
    assert_eq!(scene.followed.state.lock().members, MEMBERS);
    scene.incoming(&somebody(), Event::Join);
    assert_eq!(scene.told().len(), 2);
    assert_eq!(scene.followed.state.lock().members, MEMBERS - 1);
}

#[tokio::test(start_paused = true)]
async fn joins_that_came_while_presence_was_asked_count_towards_the_bound_of_a_channel() {
    let scene = Scene::settled(&[]).await;
    scene.followed.state.lock().forget(&channel());
    scene.followed.gap();
    scene.ask();
    for _ in 0..=CHANNEL_MEMBERS {
        scene.incoming(&somebody(), Event::Join);
    }
    scene.answer(&[], true);
    assert_eq!(scene.followed.state.lock().members, 0);
}
