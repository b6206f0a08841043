//! What a client gets of a channel: its wishes, as far as the namespace, or whoever let it in, grants them.

use tidings_core::{DeltaType, Namespace, Overrides, RecoveryMode};

use super::subscription::{Terms, Wish};
use crate::permission::{Asker, Right};

/// What the wish comes to. Where there is no history, nothing can be recovered and no position is watched, whatever was
/// granted.
pub(super) fn granted(wish: Wish, overrides: &Overrides, namespace: &Namespace, asker: &Asker<'_>) -> Terms {
    let kept = namespace.retention().is_some();
    // Who may read the channel's history can as well be helped to keep up with it.
    let reads = asker.has(namespace, Right::History);
    let recoverable = kept
        && (overrides.force_recovery.unwrap_or(namespace.force_recovery)
            || wish.recoverable && (namespace.allow_recovery || reads));
    let positioned = recoverable
        || kept
            && (overrides.force_positioning.unwrap_or(namespace.force_positioning)
                || wish.positioned && (namespace.allow_positioning || reads));
    let delta = wish.delta && positioned && namespace.allowed_delta_types.contains(&DeltaType::Fossil);

    let presence = overrides.presence.unwrap_or(namespace.presence);
    let join_leave = overrides.join_leave.unwrap_or(namespace.join_leave);
    let sees = namespace.presence && asker.has(namespace, Right::Presence);
    let joins = overrides
        .force_push_join_leave
        .unwrap_or(namespace.force_push_join_leave)
        || wish.join_leave && join_leave && sees;

    Terms {
        positioned,
        recoverable,
        cache: namespace.force_recovery_mode == RecoveryMode::Cache,
        delta,
        joins,
        presence,
        announced: presence && join_leave,
        // Those who read differences get all: the chain must not break.
        filter: wish.filter.filter(|_| !delta),
        recover: wish.recover.filter(|_| recoverable),
        reject_unrecovered: wish.reject_unrecovered,
    }
}
