use super::*;

const ALL: Quota = Quota {
    refused: 100,
    waiting: 100,
};

fn again() -> Stop {
    Stop::Again("no".to_owned())
}

fn wait() -> Stop {
    Stop::Wait("away".to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_held_at_its_row_until_that_is_due_or_done() {
    let mut blocked = Blocked::default();
    let begin = Instant::now();
    blocked.hold(7, 1, 1, &wait(), begin);
    assert_eq!(
        blocked.refused(7, 1, 1),
        0,
        "an outage of the bus is no fault of the row's"
    );
    blocked.hold(7, 1, 1, &again(), begin);
    blocked.hold(7, 1, 1, &again(), begin);
    let refused = |blocked: &Blocked, key, row| blocked.refused(7, key, row);
    assert_eq!(
        (
            refused(&blocked, 1, 1),
            refused(&blocked, 1, 2),
            refused(&blocked, 2, 1)
        ),
        (2, 0, 0)
    );
    assert_eq!(blocked.keys(7), [1]);
    assert!(blocked.keys(8).is_empty(), "it is in another lane");
    assert!(blocked.due(7, ALL, begin).is_empty(), "it was refused just now");
    assert_eq!(blocked.due(7, ALL, blocked.next(begin).unwrap()), [(1, 1)]);
    blocked.hold(7, 1, 2, &again(), begin);
    assert_eq!(blocked.refused(7, 1, 2), 1, "the next row begins anew");
    assert!(!blocked.release(7, 1), "it was refused");
    assert!(blocked.is_empty());
    blocked.hold(7, 2, 3, &again(), begin);
    blocked.keep(&[6, 7]);
    assert_eq!(blocked.keys(7), [2]);
    blocked.keep(&[6]);
    assert!(blocked.is_empty(), "others have done it");
}

#[tokio::test(start_paused = true)]
async fn rows_that_wait_for_the_bus_are_retried_in_turn_within_a_quota_of_their_own() {
    let mut blocked = Blocked::default();
    let now = Instant::now();
    for key in 0..5 {
        blocked.hold(0, key, key, &wait(), now);
    }
    blocked.hold(0, 9, 9, &again(), now);
    let quota = Quota {
        refused: 1,
        waiting: 2,
    };
    let later = now + Duration::from_secs(1);
    assert_eq!(blocked.due(0, quota, later), [(9, 9), (0, 0), (1, 1)]);
    blocked.hold(0, 0, 0, &wait(), later);
    blocked.hold(0, 1, 1, &wait(), later);
    assert_eq!(blocked.due(0, quota, later), [(9, 9), (2, 2), (3, 3)]);
    assert!(blocked.waits());
    assert!(blocked.release(0, 2), "it had waited");
}

#[tokio::test(start_paused = true)]
async fn partitions_beyond_the_bound_are_a_backlog_until_all_of_it_was_retried_and_there_is_room() {
    let mut blocked = Blocked::default();
    let now = Instant::now();
    for key in 0..MAX_PARTITIONS as i64 {
        blocked.hold(0, key, key, &again(), now);
    }
    assert_eq!(blocked.backlog(0), None);
    blocked.hold(0, 0, 0, &again(), now);
    assert_eq!(
        blocked.refused(0, 0, 0),
        2,
        "a partition that is remembered is counted"
    );
    blocked.hold(0, -1, 30_000, &wait(), now);
    let backlog = blocked.backlog(0).unwrap();
    assert_eq!((backlog.end, backlog.tried), (30_000, i64::MIN));
    blocked.tried(0, backlog, Some(25_000), now);
    assert_eq!(blocked.backlog(0).unwrap().tried, 25_000);
    blocked.tried(0, blocked.backlog(0).unwrap(), None, now);
    let tried = blocked.backlog(0).unwrap();
    assert_eq!(
        (tried.end, tried.tried),
        (30_000, i64::MIN),
        "there is no room yet"
    );
    blocked.release(0, 0);
    blocked.hold(0, -1, 30_000, &wait(), now);
    blocked.release(0, 1);
    blocked.tried(0, backlog, None, now);
    assert_eq!(blocked.backlog(0), None);
    assert!(blocked.keys(0).contains(&-1));
}

fn full(stop: &Stop, now: Instant) -> Blocked {
    let mut blocked = Blocked::default();
    for key in 0..MAX_PARTITIONS as i64 {
        blocked.hold(0, key, key, stop, now);
    }
    blocked
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_refused_rows_is_no_outage_and_is_retried_each_second_or_once_there_is_room() {
    let now = Instant::now();
    let second = now + Duration::from_secs(1);
    let mut blocked = full(&again(), now);
    blocked.hold(1, -1, 30_000, &again(), now);
    let backlog = blocked.backlog(1).unwrap();
    assert!(!blocked.waits(), "the bus is up");
    for bus in [true, false] {
        assert!(!blocked.is_due(backlog, bus, now));
        assert!(blocked.is_due(backlog, bus, second));
    }
    blocked.hold(1, -1, 30_000, &again(), second);
    blocked.tried(1, backlog, None, second);
    let backlog = blocked.backlog(1).unwrap();
    assert!(!blocked.is_due(backlog, true, second), "it was tried just now");
    blocked.release(0, 7);
    assert!(blocked.is_due(backlog, false, second));
    assert_eq!(blocked.next(now), Some(now));
}

#[tokio::test(start_paused = true)]
async fn a_backlog_that_waits_for_the_bus_is_retried_with_the_bus_until_what_is_left_of_it_is_refused() {
    let now = Instant::now();
    let later = now + Duration::from_secs(10);
    let mut blocked = full(&wait(), now);
    blocked.hold(1, -1, 30_000, &wait(), now);
    let backlog = blocked.backlog(1).unwrap();
    assert!(
        !blocked.is_due(backlog, false, later),
        "though it was not tried for long"
    );
    assert!(blocked.is_due(backlog, true, now));
    assert_eq!(blocked.next(later), None);
    assert!(backlog.waits_with(30_000) && !backlog.waits_with(30_001));
    for key in 0..MAX_PARTITIONS as i64 {
        blocked.hold(0, key, key, &again(), now);
    }
    assert!(blocked.waits());
    // It is tried twice: it was found to wait before the first time.
    for _ in 0..2 {
        blocked.hold(1, -1, 30_000, &again(), later);
        blocked.tried(1, blocked.backlog(1).unwrap(), None, later);
    }
    assert!(!blocked.waits(), "it was refused when it was tried last");
}

#[tokio::test(start_paused = true)]
async fn what_is_due_in_a_shard_that_another_node_has_is_looked_for_each_second() {
    let mut blocked = Blocked::default();
    let now = Instant::now();
    blocked.hold(0, 1, 1, &again(), now);
    let due = blocked.next(now).unwrap();
    blocked.entered(0, false, due);
    assert_eq!(blocked.next(due), Some(due + Duration::from_secs(1)));
    blocked.entered(0, true, due);
    assert_eq!(blocked.next(due), Some(due));
}

#[tokio::test(start_paused = true)]
async fn refused_rows_are_counted_though_all_that_is_remembered_waits_for_the_bus() {
    let mut blocked = Blocked::default();
    let now = Instant::now();
    for key in 0..MAX_PARTITIONS as i64 {
        blocked.hold(0, key, key, &wait(), now);
    }
    for _ in 0..2 {
        blocked.hold(0, -1, 30_000, &again(), now);
    }
    assert_eq!(blocked.refused(0, -1, 30_000), 2);
    assert_eq!(blocked.keys(0).len(), MAX_PARTITIONS);
    let end = blocked.backlog(0).unwrap().end;
    assert!(
        !blocked.keys(0).contains(&end),
        "one that waits is left to the backlog"
    );
    blocked.hold(1, 5, 5, &again(), now);
    assert_eq!(
        blocked.backlog(1).unwrap().end,
        5,
        "that lane has none that waits"
    );
}
