"""The bot role: a user for a program. It shows nothing and its token works once."""

from teleport_lite.plugin import builtin_book
from tests.plugins.makers import announce


def test_a_bot_shows_nothing():
    assert announce("Bot") == ()


def test_a_bot_s_token_is_spent_and_its_name_is_no_host():
    bot = builtin_book().get("Bot")
    assert (bot.spends_token, bot.is_host, bot.section) == (True, False, "")
