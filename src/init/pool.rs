//! Lists that most units have alike, each kept once: what they start without on this host, the environment that nobody said anything about.

use std::collections::BTreeSet;
use std::rc::Rc;

pub struct Pool<T>(BTreeSet<Rc<[T]>>);

impl<T: Ord> Pool<T> {
    /// The one that is kept of this list.
    pub fn share(&mut self, list: impl Into<Rc<[T]>>) -> Rc<[T]> {
        let list = list.into();
        if let Some(kept) = self.0.get(&list) {
            return Rc::clone(kept);
        }
        self.0.insert(Rc::clone(&list));
        list
    }
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Pool(BTreeSet::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_are_one() {
        let mut pool = Pool::default();
        let (a, b, c) = (pool.share(["x", "y"]), pool.share(vec!["x", "y"]), pool.share(["x"]));
        assert!(Rc::ptr_eq(&a, &b) && *c == ["x"]);
    }
}
