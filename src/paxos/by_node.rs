//! Something of each of a few nodes, ascending by id: a list that is looked through. For so few that is less work
//! than a tree, and it sets no memory aside once all are in it.

use super::ids::NodeId;

#[derive(Clone, Debug, Hash)]
pub struct ByNode<T>(Vec<(NodeId, T)>);

impl<T> Default for ByNode<T> {
    fn default() -> ByNode<T> {
        ByNode(Vec::new())
    }
}

impl<T> ByNode<T> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, node: NodeId) -> Option<&T> {
        self.0.iter().find(|(id, _)| *id == node).map(|(_, it)| it)
    }

    pub fn get_mut(&mut self, node: NodeId) -> Option<&mut T> {
        self.0.iter_mut().find(|(id, _)| *id == node).map(|(_, it)| it)
    }

    /// What there is of the node, which becomes `new` if there is nothing.
    pub fn get_or_insert(&mut self, node: NodeId, new: T) -> &mut T {
        let at = self.0.partition_point(|(id, _)| *id < node);
        if self.0.get(at).is_none_or(|(id, _)| *id != node) {
            self.0.insert(at, (node, new));
        }
        &mut self.0[at].1
    }

    pub fn remove(&mut self, node: NodeId) {
        self.0.retain(|(id, _)| *id != node);
    }

    pub fn retain(&mut self, mut keep: impl FnMut(NodeId) -> bool) {
        self.0.retain(|(id, _)| keep(*id));
    }

    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &T)> {
        self.0.iter().map(|(node, it)| (*node, it))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut T)> {
        self.0.iter_mut().map(|(node, it)| (*node, it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In whichever order they come, they stand in the order of ids, each once.
    #[test]
    fn they_stand_in_order() {
        let mut map = ByNode::default();
        for id in [3, 1, 2, 3, 1] {
            *map.get_or_insert(NodeId(id), 0) += id;
        }
        let all =
            |map: &ByNode<u16>| map.iter().map(|(node, it)| (node.0, *it)).collect::<Vec<_>>();
        assert_eq!(all(&map), [(1, 2), (2, 2), (3, 6)]);
        map.remove(NodeId(2));
        assert_eq!((map.get(NodeId(2)), map.get(NodeId(3))), (None, Some(&6)));
        map.retain(|node| node == NodeId(3));
        *map.get_mut(NodeId(3)).unwrap() = 7;
        assert_eq!(all(&map), [(3, 7)]);
    }
}
