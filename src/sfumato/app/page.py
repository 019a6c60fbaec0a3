"""The page: the registered tabs in order, and its look."""

from __future__ import annotations

import inspect
from typing import Any

import gradio as gr

from sfumato.app.pieces.piece import styles
from sfumato.app.registry import tabs
from sfumato.app.server.workshop import Workshop
from sfumato.report.page import template

TITLE = "Sfumato"


def page(workshop: Workshop) -> gr.Blocks:
    """The page over a workshop."""
    registered = tabs()  # before the page begins: what their modules make when they are imported is no part of it
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML(
            '<header class="sf-bar"><span class="sf-brand">sfumato</span>'
            "<span>where, which, when and what if: how an image came from its words</span></header>",
            apply_default_css=False,
        )
        with gr.Tabs(elem_id="tabs"):
            for one in registered:
                with gr.Tab(one.name, id=one.name.lower()) as tab:
                    one.build(workshop, blocks, tab)

        def leave(request: gr.Request) -> None:
            workshop.stop(workshop.seat(request).tab, "the tab was closed")

        blocks.unload(leave)
    for listener in blocks.fns.values():  # else Gradio describes them all on the page, also to who is not logged in
        listener.api_visibility = "private"
    return blocks  # type: ignore[no-any-return]


def look() -> dict[str, Any]:
    """What ``mount_gradio_app`` is told of the page's look: the report's colours and letters, none from elsewhere."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Arial", "sans-serif"]
    mono = ["ui-monospace", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]
    theme = gr.themes.Base(font=fonts, font_mono=mono, text_size="md", radius_size="md")
    colours = {
        "body_background_fill": "var(--paper)",
        "body_text_color": "var(--ink)",
        "body_text_color_subdued": "var(--quiet)",
        "background_fill_primary": "var(--card)",
        "background_fill_secondary": "var(--paper)",
        "block_background_fill": "transparent",
        "block_border_width": "0px",
        "block_shadow": "none",
        "block_label_text_color": "var(--quiet)",
        "block_title_text_color": "var(--quiet)",
        "block_info_text_color": "var(--quiet)",
        "border_color_primary": "var(--line)",
        "input_background_fill": "var(--card)",
        "input_border_color": "var(--line)",
        "input_border_color_focus": "var(--accent)",
        "input_placeholder_color": "var(--quiet)",
        "button_primary_background_fill": "var(--accent)",
        "button_primary_background_fill_hover": "var(--accent)",
        "button_primary_text_color": "var(--card)",
        "button_secondary_background_fill": "var(--soft)",
        "button_secondary_background_fill_hover": "var(--soft)",
        "button_secondary_text_color": "var(--ink)",
        "color_accent": "var(--accent)",
        "color_accent_soft": "var(--soft)",
        "slider_color": "var(--accent)",
        "link_text_color": "var(--accent)",
        "checkbox_background_color_selected": "var(--accent)",
        "checkbox_border_color_selected": "var(--accent)",
        "panel_background_fill": "var(--card)",
    }
    known = set(inspect.signature(theme.set).parameters)
    theme.set(**colours, **{f"{name}_dark": value for name, value in colours.items() if f"{name}_dark" in known})
    tokens = f"<style>{template('tokens.css')}</style>"  # as a style of the head they keep their media queries
    return {"theme": theme, "head": tokens, "css": styles(), "footer_links": []}
