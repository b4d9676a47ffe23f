/// Values under numbers that stay theirs until they are removed.
#[derive(Debug)]
pub(super) struct Slab<T> {
    entries: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, value: T) -> usize {
        if let Some(id) = self.free.pop() {
            self.entries[id] = Some(value);
            return id;
        }
        self.entries.push(Some(value));
        self.entries.len() - 1
    }

    pub(super) fn remove(&mut self, id: usize) -> Option<T> {
        let value = self.entries.get_mut(id)?.take()?;
        self.free.push(id);
        Some(value)
    }

    pub(super) fn get(&self, id: usize) -> Option<&T> {
        self.entries.get(id)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: usize) -> Option<&mut T> {
        self.entries.get_mut(id)?.as_mut()
    }

    /// The numbers in use.
    pub(super) fn ids(&self) -> Vec<usize> {
        (0..self.entries.len()).filter(|&id| self.entries[id].is_some()).collect()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_and_never_twice() {
        let mut slab = Slab::new();
        let (a, b) = (slab.insert("a"), slab.insert("b"));
        assert_eq!(slab.remove(a), Some("a"));
        assert_eq!((slab.remove(a), slab.get(a), slab.len()), (None, None, 1));
        assert_eq!(slab.insert("c"), a);
        assert_eq!((slab.get(b), slab.ids()), (Some(&"b"), vec![a, b]));
    }
}
