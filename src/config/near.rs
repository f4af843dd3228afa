//! Finds the name that a misspelt one was probably meant to be.
//! Knows nothing of what the names are for.

/// The name among these that is nearest to `text`, if it is near at all.
pub(super) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.map(|name| (distance(text.as_bytes(), name.as_bytes()), name));
    let (distance, name) = near.min()?;
    (distance <= 1 + name.len() / 8).then_some(name)
}

/// How many letters have to be changed, inserted or deleted (Levenshtein).
fn distance(one: &[u8], other: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, a) in one.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (place, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[place + 1];
            row[place + 1] = changed.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row[other.len()]
}
