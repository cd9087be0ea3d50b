//! ImageNet's 1000 classes: index, WordNet id and name.

use std::sync::LazyLock;

/// One class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// WordNet id: `n01440764`, the name of its folder.
    pub wnid: &'static str,
    /// Common name; a few names occur twice.
    pub name: &'static str,
}

static CLASSES: LazyLock<Vec<Class>> = LazyLock::new(|| {
    let lines = include_str!("imagenet_classes.txt").lines();
    lines.filter_map(|line| line.split_once('\t')).map(|(wnid, name)| Class { wnid, name }).collect()
});

/// All classes, by the index that every network trained on ImageNet gives them.
pub fn classes() -> &'static [Class] {
    &CLASSES
}

/// The index of a WordNet id.
pub fn index_of(wnid: &str) -> Option<usize> {
    // The indices follow the sorted ids.
    CLASSES.binary_search_by(|class| class.wnid.cmp(wnid)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_classes_in_the_order_of_their_ids() {
        assert_eq!(classes().len(), 1000);
        assert!(classes().is_sorted_by(|a, b| a.wnid < b.wnid));
        assert_eq!(classes()[0].wnid, "n01440764");
        assert!((0..1000).all(|i| index_of(classes()[i].wnid) == Some(i)));
        assert!(classes().iter().all(|c| !c.name.trim().is_empty()));
        assert_eq!(index_of("n00000000"), None);
    }
}
