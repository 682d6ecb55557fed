//! Image buffers that are reused once nobody holds them.

use std::sync::Arc;

use super::image::Image;

/// Remembers the pictures that were handed out. Its owner is one thread; holders of a picture only
/// drop it.
#[derive(Debug, Default)]
pub(crate) struct ImagePool(Vec<Arc<Image>>);

impl ImagePool {
    /// Shares `image`, to be [reclaimed](Self::reclaim) when every holder has dropped it.
    pub(crate) fn share(&mut self, image: Image) -> Arc<Image> {
        let shared = Arc::new(image);
        if self.0.len() == MAX_SHARED {
            self.0.remove(0);
        }
        self.0.push(Arc::clone(&shared));
        shared
    }

    /// A picture that nobody holds any more, with unspecified contents, or an empty one.
    pub(crate) fn reclaim(&mut self) -> Image {
        let free = self.0.iter().position(|image| Arc::strong_count(image) == 1);
        let image = free.and_then(|at| Arc::into_inner(self.0.swap_remove(at)));
        image.unwrap_or_else(Image::empty)
    }
}

/// One picture in the mailbox, one on the screen and one in a snapshot, and as many for a second
/// consumer. Older ones are forgotten, and freed by their last holder.
const MAX_SHARED: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::image::PixelFormat;

    fn picture(luma: u8) -> Image {
        let mut image = Image::blank(16, 8, PixelFormat::Gray);
        image.data.fill(luma);
        image
    }

    #[test]
    fn a_picture_is_reclaimed_when_its_last_holder_drops_it() {
        let mut pool = ImagePool::default();
        let (first, second) = (pool.share(picture(1)), pool.share(picture(2)));
        let also_first = Arc::clone(&first);
        drop(first);
        assert_eq!(pool.reclaim(), Image::empty(), "both are held");
        drop(second);
        assert_eq!(pool.reclaim(), picture(2));
        drop(also_first);
        assert_eq!(pool.reclaim(), picture(1));
        assert_eq!(pool.reclaim(), Image::empty());
    }

    #[test]
    fn the_number_of_remembered_pictures_is_bounded() {
        let mut pool = ImagePool::default();
        let held: Vec<_> = (0..20).map(|luma| pool.share(picture(luma))).collect();
        assert_eq!(pool.0.len(), MAX_SHARED);
        assert_eq!(*held[3], picture(3), "a forgotten one is still valid");
    }
}
