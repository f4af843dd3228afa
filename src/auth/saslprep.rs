//! Prepares a password for hashing as PostgreSQL does, by its own SASLprep (RFC 4013).
//! Knows nothing of what is done with it.

use std::borrow::Cow;

use stringprep::tables;
use unicode_normalization::UnicodeNormalization;

/// The password in its normal form. It stays as it is when it is not UTF-8, or holds characters
/// that are prohibited or not assigned in Unicode 3.2.
///
/// Unlike the RFC, PostgreSQL looks for these before it normalizes: a password with U+2090, which
/// was not assigned then, stays as it is. Source: `pg_saslprep` in `saslprep.c`.
pub fn prepare(password: &[u8]) -> Cow<'_, [u8]> {
    match str::from_utf8(password) {
        Ok(text) if !text.is_ascii() => match normal(text) {
            Some(text) => Cow::Owned(text.into_bytes()),
            None => Cow::Borrowed(password),
        },
        Ok(_) | Err(_) => Cow::Borrowed(password),
    }
}

fn normal(text: &str) -> Option<String> {
    let mapped: Vec<char> = text
        .chars()
        .map(|c| if tables::non_ascii_space_character(c) { ' ' } else { c })
        .filter(|c| !tables::commonly_mapped_to_nothing(*c))
        .collect();
    let (first, last) = (*mapped.first()?, *mapped.last()?);
    if mapped.iter().any(|c| is_prohibited(*c) || tables::unassigned_code_point(*c)) {
        return None;
    }
    // RFC 3454, section 6: right-to-left text begins and ends so, and holds no other letters.
    let is_right_to_left = tables::bidi_r_or_al;
    if mapped.iter().any(|c| is_right_to_left(*c)) {
        let is_mixed = mapped.iter().any(|c| tables::bidi_l(*c));
        if is_mixed || !is_right_to_left(first) || !is_right_to_left(last) {
            return None;
        }
    }
    Some(mapped.into_iter().nfkc().collect())
}

/// RFC 4013, section 2.3.
fn is_prohibited(c: char) -> bool {
    tables::non_ascii_space_character(c)
        || tables::ascii_control_character(c)
        || tables::non_ascii_control_character(c)
        || tables::private_use(c)
        || tables::non_character_code_point(c)
        || tables::inappropriate_for_plain_text(c)
        || tables::inappropriate_for_canonical_representation(c)
        || tables::change_display_properties_or_deprecated(c)
        || tables::tagging_character(c)
}
