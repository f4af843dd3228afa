//! The daemon's coverage marks and planted bugs, as far as they are compiled in.
//! Knows nothing of what reaches or finds them.

/// How often each mark was reached in this thread since the last call. Empty without the feature
/// `marks`.
pub fn take_marks() -> Vec<(String, u64)> {
    #[cfg(feature = "marks")]
    let marks = multigres::probe::take_marks()
        .into_iter()
        .map(|(mark, count)| (format!("{mark:?}"), count))
        .collect();
    #[cfg(not(feature = "marks"))]
    let marks = Vec::new();
    marks
}

/// The names of the bugs that can be planted. Empty without the feature `mutants`.
pub fn mutants() -> Vec<String> {
    if !cfg!(feature = "mutants") {
        return Vec::new();
    }
    multigres::probe::Mutant::ALL.iter().map(|mutant| format!("{mutant:?}")).collect()
}

/// Plants a bug in this thread, in place of the one before; none for `None`.
///
/// # Errors
/// When there is no such bug in this build.
pub fn plant(name: Option<&str>) -> Result<(), String> {
    #[cfg(feature = "mutants")]
    {
        use multigres::probe::{Mutant, plant};
        let find = |name: &str| {
            let found = Mutant::ALL.iter().copied().find(|mutant| format!("{mutant:?}") == name);
            found.ok_or(format!("no mutant {name}"))
        };
        plant(name.map(find).transpose()?);
        Ok(())
    }
    #[cfg(not(feature = "mutants"))]
    match name {
        None => Ok(()),
        Some(name) => Err(format!("mutant {name}: this build has none (feature \"mutants\")")),
    }
}
