//! One suite over the daemon's seam, played on real sockets and in the simulated network, so that
//! the simulated kernel stays honest. What it holds both to was found out on Linux.

mod accepting;
mod connecting;
mod ending;
mod reading;
mod real;
mod simulated;
mod stage;
mod writing;

/// Makes two tests of each story.
macro_rules! stories {
    ($($chapter:ident: $($story:ident)*;)*) => {
        mod on_real_sockets {
            $($(#[test] fn $story() { crate::real::play(crate::$chapter::$story); })*)*
        }
        mod in_the_simulated_network {
            $($(#[test] fn $story() { crate::simulated::play(crate::$chapter::$story); })*)*
        }
    };
}

stories! {
    accepting:
        a_listener_gives_who_waits_and_then_nothing
        two_who_come_at_once_may_have_one_event
        who_has_left_before_it_is_accepted_is_accepted_with_its_words
        who_has_reset_before_it_is_accepted_is_accepted_with_its_words
        a_dropped_listener_resets_who_waits_and_refuses_who_comes;
    connecting:
        a_connection_is_made_once_and_stays_made
        a_refused_connection_tells_once_why
        a_connection_without_answer_is_neither_made_nor_failed
        a_connection_given_up_leaves_nothing_behind
        a_connection_reset_before_it_is_asked_after_has_failed;
    reading:
        data_comes_whole_and_in_order_through_any_buffer
        a_read_that_finds_nothing_is_told_when_there_is_something
        what_has_come_before_the_registration_is_told
        events_come_under_the_token_of_their_stream
        the_end_stands_behind_all_data_and_stays;
    writing:
        a_stream_takes_what_there_is_room_for
        a_full_stream_tells_when_there_is_room_and_loses_nothing
        a_full_stream_tells_of_a_reset
        a_full_stream_tells_of_a_reset_behind_the_end
        no_bytes_can_be_written_behind_the_own_end;
    ending:
        the_other_side_ends_first_and_still_listens
        this_side_ends_first_and_still_listens
        a_stream_that_has_ended_both_ways_is_not_connected
        a_reset_stands_behind_data_that_came_before_it
        a_close_with_unread_data_is_a_reset_behind_data
        a_reset_can_be_told_by_a_write_and_then_stands_behind_no_data
        a_reset_behind_the_end_is_told_by_writes_alone
        a_write_to_a_closed_stream_is_answered_with_a_reset
        unread_data_is_kept_when_a_write_breaks_the_stream
        a_reset_stream_cannot_be_half_closed
        a_reset_behind_the_own_end_is_a_reset
        a_dropped_stream_ends_in_order
        a_dropped_stream_with_unread_data_resets
        a_dropped_stream_resets_who_goes_on_writing;
}
