//! What judges the others: it must find what it is for.

use tidings_tests::Turns;

#[test]
fn a_member_that_comes_or_leaves_twice_in_a_row_is_found_and_one_that_takes_turns_is_not() {
    let mut turns = Turns::default();
    for (member, came) in [("ada", true), ("bob", true), ("ada", false), ("ada", true)] {
        turns.heard(member, came);
    }
    turns.verdict().unwrap();
    assert_eq!(turns.there().iter().copied().collect::<Vec<_>>(), ["ada", "bob"]);

    turns.heard("ada", true);
    turns.heard("eve", false);
    let verdict = turns.verdict().unwrap_err();
    for fault in ["2 heard out of turn", r#""ada" came"#, r#""eve" left"#] {
        assert!(verdict.contains(fault), "{verdict}");
    }
}
