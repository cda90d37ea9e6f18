"""The page of scripts/explore.py in a browser, as a person uses it; needs Chromium on the PATH."""

import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")]
DESKTOP, PHONE = {"width": 1200, "height": 800}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def served(*arguments: str):
    """The address of a page while it is served."""
    command = [sys.executable, str(ROOT / "scripts" / "explore.py"), "port=0", "browser=false", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield re.match(r"http://\S+", server.stdout.readline())[0]
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def address(trained):
    """Of a page with two models and an unknown word."""
    with served(f"ckpt=[{trained('lstm')},{trained('transformer')}]", "text=w1 zebra w2") as address:
        yield address


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def page(request, browser, address):
    """The page with its first text scored; a mistake in its script fails the test."""
    page, mistakes = browser.new_page(viewport=request.param), []
    page.on("pageerror", lambda error: mistakes.append(str(error)))
    page.on("console", lambda message: mistakes.append(message.text) if message.type == "error" else None)
    page.goto(address)
    shaded(page, 4)
    yield page
    page.close()
    assert mistakes == []


def shaded(page, words: int) -> None:
    """Wait until so many words, ends of lines included, have a shade."""
    page.wait_for_function("n => document.querySelectorAll('#shades .word[style]').length === n", arg=words)


def described(page, word: str) -> None:
    """Wait until the word at the cursor, or under the pointer, is this one."""
    page.wait_for_function("word => document.querySelector('#detail h2').textContent.endsWith(`: ${word}`)", arg=word)


def test_what_is_typed_is_shaded_and_unknown_words_are_hatched(page):
    assert page.locator("#shades .unknown").all_inner_texts() == ["zebra"]
    page.keyboard.type("\nw3 zoo w4")
    shaded(page, 8)
    assert page.locator("#shades .unknown").all_inner_texts() == ["zebra", "zoo"]
    assert "8 words" in page.inner_text("#summary")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # fits the width of a phone


def test_the_shaded_words_stand_where_the_typed_ones_do(page):
    page.keyboard.type("\n\n" + "w1 w22 " * 60)
    shaded(page, 125)
    heights = page.evaluate("""() => ['#text', '#shades'].map(id => {
        const element = document.querySelector(id);
        Object.assign(element.style, {height: 0, minHeight: 0});
        return element.scrollHeight;
    })""")
    assert abs(heights[0] - heights[1]) < 20  # less than a line


def test_the_keyboard_alone_reaches_a_candidate_and_puts_it_in_the_words_place(page):
    page.keyboard.press("Home")
    described(page, "w1")
    page.keyboard.press("Tab")
    candidate = page.locator("button.candidate").first.inner_text().split("\n")[0]
    page.keyboard.press("Enter")
    assert page.input_value("#text") == f"{candidate} zebra w2"
    assert page.evaluate("document.activeElement.id") == "text"


def test_a_tapped_word_is_described_by_both_models(page):
    word = page.locator("#shades .unknown").bounding_box()
    page.mouse.click(word["x"] + word["width"] / 2, word["y"] + word["height"] / 2)
    described(page, "zebra")
    assert [each.split(": ")[1] for each in page.locator("#detail h2").all_inner_texts()] == ["zebra", "zebra"]
    assert "not in the vocabulary" in page.inner_text("#detail")
    assert page.locator("#detail .candidate").count() == 20


def test_a_word_is_described_that_the_pointer_rests_on(page):
    word = page.locator("#shades .word").nth(0).bounding_box()
    page.mouse.move(word["x"] + word["width"] / 2, word["y"] + word["height"] / 2)
    described(page, "w1")


def test_a_candidate_replaces_the_word_that_the_pointer_rested_on(page):
    word = page.locator("#shades .unknown").bounding_box()
    page.mouse.move(word["x"] + word["width"] / 2, word["y"] + word["height"] / 2)
    described(page, "zebra")
    button = page.locator("button.candidate").nth(1)
    candidate = button.inner_text().split("\n")[0].replace("<eos>", "\n")
    button.click()
    assert page.input_value("#text") == f"w1 {candidate} w2"


def test_typing_ends_a_continuation_and_keeps_its_order(page):
    page.fill("#text", "w1 ")
    page.evaluate("document.querySelector('#max_words').value = 200")
    page.keyboard.press("Control+Enter")
    page.wait_for_function("() => document.querySelector('#text').value.length > 10")
    page.keyboard.type("abcdefgh")
    page.wait_for_selector("#stop:disabled")
    page.wait_for_timeout(300)
    assert page.input_value("#text").endswith("abcdefgh")


def test_a_word_wider_than_a_phone_is_broken(page):
    page.keyboard.type("\n" + "x" * 200)
    shaded(page, 6)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_line_that_is_too_long_leaves_the_others_scored(page):
    page.fill("#text", "w3 " * 5001 + "\nw2 w3")
    page.wait_for_function("() => document.querySelector('#message').textContent")
    assert page.inner_text("#message") == "Lines of more than 5000 words are not scored."
    assert page.locator("#shades > div:nth-child(2) .word[style]").count() == 3
    page.fill("#text", "w2 w3")
    page.wait_for_function("() => !document.querySelector('#message').textContent")


def test_the_text_is_continued_from_the_cursor(page):
    page.keyboard.press("Home")
    page.keyboard.type("w5 ")
    page.keyboard.press("Control+Enter")
    page.wait_for_function("() => document.querySelector('#text').value.length > 20")
    page.wait_for_selector("#stop:disabled")
    text = page.input_value("#text")
    assert text.startswith("w5 ") and text.endswith(" w1 zebra w2")


def test_two_models_are_compared_and_figures_drawn(page):
    page.check("#choice input[value=difference]")
    assert "less probable" in page.inner_text("header")
    assert page.locator("#shades .word[style]").count() == 4
    page.check("#choice input[value='1']")
    for name in ("heat_map", "attention"):
        page.click(f"#{name} summary")
        page.wait_for_function(f"() => document.querySelector('#{name} img').naturalWidth > 100")


def test_a_saved_page_is_read_by_pointing_and_by_the_keyboard(browser, trained, tmp_path):
    from lm import LanguageModel

    path: Path = LanguageModel.load(trained("lstm")).plot("w1 zebra\nw2").save(tmp_path / "x.html")
    page = browser.new_page(viewport=PHONE)
    page.goto(path.as_uri())
    page.hover("main .word >> nth=1")
    assert page.inner_text(".detail h2") == "zebra"
    page.focus("main .word >> nth=0")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.inner_text(".detail h2") == "<eos>"
    assert "5 words" in page.inner_text("#summary")
    page.close()


def test_a_tokenised_text_is_shaded_where_its_words_stand(browser, trained):
    with served(f"ckpt={trained('lstm')}", "tokenize=true", "text=w1, w2-w3!") as address:
        page = browser.new_page()
        page.goto(address)
        shaded(page, 7)
        assert page.locator("#shades .word").all_inner_texts() == ["w1", ",", "w2", "-", "w3", "!", ""]
        assert page.locator("#shades").inner_text() == "w1, w2-w3!"
        page.keyboard.type(" w4 @-@ w5")
        shaded(page, 10)
        assert page.locator("#shades .word").all_inner_texts()[-4:] == ["w4", "@-@", "w5", ""]
        page.fill("#text", "w1, w2")
        shaded(page, 4)
        page.evaluate("document.querySelector('#text').setSelectionRange(3, 3)")
        page.wait_for_function("() => document.querySelector('#detail h2').textContent === ','")
        words = page.locator("button.candidate span").all_inner_texts()
        i = next(i for i, word in enumerate(words) if word != "<eos>")
        page.locator("button.candidate").nth(i).click()
        assert page.input_value("#text") == f"w1 {words[i]} w2"
        page.close()
