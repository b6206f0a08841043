//! What every broker promises: one suite, passed by the embedded broker, by Redis and by a Redis Cluster.
//!
//! Each case gets a function that makes nodes. In memory all are the same process; with Redis each has a broker, and
//! so connections, of its own. There is one Cluster for all cases, each of which has its own names there.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bus;
#[path = "../common/mod.rs"]
mod common;
mod streams;

/// Every case as a test of the embedded broker and of Redis, and all together of a Cluster.
macro_rules! all {
    ($($suite:ident: $($case:ident)*;)*) => {
        mod memory {
            use tidings_broker::Broker;
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let broker = Broker::memory();
                    crate::$suite::$case(|| broker.clone()).await;
                }
            )*)*
        }
        mod redis {
            use tidings_broker::{Broker, test_util::RedisServer};
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let Some(server) = RedisServer::start() else { return };
                    crate::$suite::$case(|| Broker::redis(&server.config()).unwrap()).await;
                }
            )*)*
        }
        mod cluster {
            use tidings_broker::{Broker, redis::Config, test_util::RedisCluster};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn every_case() {
                let Some(cluster) = tokio::task::spawn_blocking(RedisCluster::start).await.unwrap() else {
                    return;
                };
                $($(
                    println!(stringify!($case));
                    let config = Config {
                        prefix: stringify!($case).to_owned(),
                        ..cluster.config()
                    };
                    crate::$suite::$case(|| Broker::redis(&config).unwrap()).await;
                )*)*
            }
        }
    };
}

all! {
    bus:
    a_publication_reaches_all_that_want_its_channel_and_no_other
    all_subscribers_hear_a_channel_in_one_order
    nothing_arrives_after_unsubscribing_has_returned
    every_field_of_a_publication_arrives
    data_is_delivered_whole_whatever_its_size
    what_is_published_after_subscribing_has_returned_is_heard
    one_publication_goes_to_all_its_channels
    subscribers_do_not_disturb_each_other
    interest_is_a_set_and_not_a_count
    two_thousand_channels_are_subscribed_at_once
    members_that_come_and_leave_are_announced
    what_a_node_is_told_reaches_it_and_no_other
    what_all_are_told_reaches_those_who_listen_to_that
    a_message_to_nodes_is_whole_up_to_its_limit_and_refused_beyond
    a_broker_in_use_is_up;
    streams:
    publications_are_numbered_from_one_without_holes_in_the_order_in_which_they_are_heard
    every_field_of_a_publication_is_kept
    a_stream_is_read_from_where_and_how_far_it_is_asked
    only_the_newest_publications_are_kept
    what_is_too_old_is_not_read
    a_stream_without_a_publication_has_a_provisional_position
    a_read_ends_where_its_bytes_end_but_not_before_one_publication
    a_stream_that_was_removed_begins_anew_with_another_epoch
    a_repeated_publish_gets_the_first_answer_and_is_not_sent
    a_repeated_publish_of_what_is_not_kept_is_not_sent_either
    keys_are_those_of_a_channel_and_of_a_window
    positions_are_those_of_all_channels_at_once
    what_is_not_kept_has_no_place_in_the_stream
    what_is_no_newer_than_what_is_there_is_not_published;
}
