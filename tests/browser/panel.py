"""A panel in the page: its controls by the names beside them, moved by mouse and keyboard.

`layout_faults` measures what a look at a screenshot shows: text or widgets that are cut off, and
text too faint to read on what lies behind it.
"""

from playwright.sync_api import Locator

# A picture's bytes, as a short text; only once the browser has decoded it, so it can be shown.
DIGEST = """async image => {
    await image.decode();
    const bytes = await (await fetch(image.src)).arrayBuffer();
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    return [...digest].map(byte => byte.toString(16).padStart(2, "0")).join("");
}"""

# Contrast as WCAG 2 defines it (relative luminance of text and background); what is switched off
# is exempt there, and here. Text is cut where an element around it that hides or scrolls what does
# not fit is smaller than the text's glyphs.
FAULTS = """(output, least_contrast) => {
    const faults = [], area = output.getBoundingClientRect();
    const say = (text, what) => faults.push(`${text.trim().slice(0, 60)}: ${what}`);
    const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
    const alpha = colour => colour.length > 3 ? colour[3] : 1;
    const luminance = colour => colour.slice(0, 3).map(x => x / 255)
        .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
        .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
    const blend = (top, below, share) => below.map((x, i) => share * top[i] + (1 - share) * x);
    function behind(element) {
        if (!element) return [255, 255, 255];
        const colour = numbers(getComputedStyle(element).backgroundColor);
        return blend(colour, behind(element.parentElement), alpha(colour));
    }
    const opacity = element =>
        element ? getComputedStyle(element).opacity * opacity(element.parentElement) : 1;
    function contrast(element) {
        const back = behind(element), colour = numbers(getComputedStyle(element).color);
        const text = blend(colour, back, alpha(colour) * opacity(element));
        const [dark, light] = [luminance(text), luminance(back)].sort((a, b) => a - b);
        return (light + 0.05) / (dark + 0.05);
    }
    const outside = (inner, outer) =>
        inner.left < outer.left - 1 || inner.right > outer.right + 1 ||
        inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1;
    const clips = element => getComputedStyle(element).overflow !== "visible";
    for (const element of output.querySelectorAll("img, input, button, .slider-container")) {
        const box = element.getBoundingClientRect();
        if (box.width && outside(box, area)) say(element.outerHTML, "reaches out of the output");
    }
    const texts = document.createTreeWalker(output, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const text = texts.currentNode, range = document.createRange();
        range.selectNodeContents(text);
        const box = range.getBoundingClientRect();
        if (!text.data.trim() || !box.width || text.parentElement.closest("style")) continue;
        for (let e = text.parentElement; e !== output; e = e.parentElement)
            if (clips(e) && outside(box, e.getBoundingClientRect())) say(text.data, "cut");
        if (outside(box, area)) say(text.data, "reaches out of the output");
        const ratio = text.parentElement.closest("[disabled]") ? Infinity
            : contrast(text.parentElement);
        if (ratio < least_contrast) say(text.data, `contrast ${ratio.toFixed(2)}`);
    }
    return faults;
}"""


class Panel:
    """The widgets inside `output`, an output of a cell."""

    def __init__(self, output: Locator) -> None:
        self.output, self.page = output, output.page
        self.pictures = output.locator("img.widget-image")

    def slider(self, name: str) -> Locator:
        return self._control(".widget-slider", name)

    def handle(self, name: str) -> Locator:
        """What a slider is moved by; it takes the mouse and the arrow keys."""
        return self.slider(name).locator(".noUi-handle")

    def readout(self, name: str) -> Locator:
        """The number beside a slider."""
        return self.slider(name).locator(".widget-readout")

    def text_box(self, name: str) -> Locator:
        return self._control(".widget-text", name).locator("input")

    def choice(self, name: str) -> Locator:
        """A list of which one entry is chosen."""
        return self._control(".widget-dropdown", name).locator("select")

    def button(self, name: str) -> Locator:
        return self.output.get_by_role("button", name=name, exact=True)

    def press(self, name: str, key: str, times: int = 1) -> None:
        """Press an arrow key on a slider."""
        for _ in range(times):
            self.handle(name).press(key)

    def drag(self, name: str, to: float) -> None:
        """Drag a slider with the mouse to a place between 0 (left) and 1 (right)."""
        bar = self.slider(name).locator(".noUi-base").bounding_box()
        handle = self.handle(name).bounding_box()
        middle = handle["y"] + handle["height"] / 2
        self.page.mouse.move(handle["x"] + handle["width"] / 2, middle)
        self.page.mouse.down()
        self.page.mouse.move(bar["x"] + to * bar["width"], middle, steps=5)
        self.page.mouse.up()

    def type(self, name: str, text: str) -> None:
        """Type into a text box and press Enter."""
        self.text_box(name).fill(text)
        self.text_box(name).press("Enter")

    def address(self) -> str:
        """Where the page has the first picture; another one for each drawing."""
        return self.pictures.first.get_attribute("src")

    def tap(self, name: str, at: float) -> None:
        """Click on a slider's bar between 0 (left) and 1 (right); its handle jumps there."""
        bar = self.slider(name).locator(".noUi-base").bounding_box()
        middle = bar["y"] + bar["height"] / 2
        self.page.mouse.click(bar["x"] + at * bar["width"], middle)

    def picture(self) -> str:
        """What the first picture shows: the same text for the same bytes."""
        return self.pictures.first.evaluate(DIGEST)

    def wait_for_another_picture(self, address: str) -> None:
        """Wait until the first picture is no longer the one at `address`."""
        changed = "([image, address]) => image.src !== address"
        self.page.wait_for_function(changed, arg=[self.pictures.first.element_handle(), address])

    def layout_faults(self, least_contrast: float) -> list[str]:
        """All that is cut off, reaches out of the output, or is too faint to read."""
        return self.output.evaluate(FAULTS, least_contrast)

    def _control(self, kind: str, name: str) -> Locator:
        label = self.page.locator(".widget-label").get_by_text(name, exact=True)
        return self.output.locator(kind).filter(has=label)
