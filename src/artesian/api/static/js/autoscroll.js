// Keeps the newest text in view until the user scrolls up, and again once they come back down.

const NEAR_BOTTOM_PX = 32;
const DRAG_PX = 6;

export class Autoscroll {
  /** `onDetach(isDetached)` is told when following stops or starts. */
  constructor(scroller, content, onDetach) {
    this.scroller = scroller;
    this.onDetach = onDetach;
    this.following = true;
    this.lastTop = 0;
    this.listen();
    const observer = new ResizeObserver(() => this.follow());
    observer.observe(content);
    observer.observe(scroller);
  }

  /** Wheel and finger count before the scroll does: else each new token would undo a slow one. */
  listen() {
    const { scroller } = this;
    const passive = { passive: true };
    let touchY = 0;
    scroller.addEventListener("scroll", () => this.onScroll(), passive);
    scroller.addEventListener(
      "wheel",
      (event) => {
        if (event.deltaY < 0) this.detach();
      },
      passive,
    );
    scroller.addEventListener(
      "touchstart",
      (event) => {
        touchY = event.touches[0].clientY;
      },
      passive,
    );
    scroller.addEventListener(
      "touchmove",
      (event) => {
        if (event.touches[0].clientY > touchY + DRAG_PX) this.detach();
      },
      passive,
    );
  }

  onScroll() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    const nearBottom = scrollHeight - scrollTop - clientHeight <= NEAR_BOTTOM_PX;
    if (nearBottom && scrollTop >= this.lastTop) this.setFollowing(true);
    else if (!nearBottom && scrollTop < this.lastTop) this.setFollowing(false);
    this.lastTop = scrollTop;
  }

  detach() {
    if (this.scroller.scrollHeight > this.scroller.clientHeight) this.setFollowing(false);
  }

  setFollowing(following) {
    if (following === this.following) return;
    this.following = following;
    this.onDetach(!following);
  }

  follow() {
    if (this.following) this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  /** Goes to the end and follows again. */
  jump() {
    this.setFollowing(true);
    this.follow();
  }
}
