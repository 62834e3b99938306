%% @private
%% JSON text from terms and back, by the native library.
%%
%% Objects are maps with binaries for keys, `null' is the atom. In a term that is to become text, keys may be atoms
%% too, and `{json, Text}' stands for text that is JSON already: it is checked and goes in as one line.
-module(erlmcp_shm_json).

-export([encode/1, decode/1]).

%% @doc The text, without a line break anywhere.
-spec encode(map() | list() | binary() | number() | atom()) ->
    {ok, binary()} | {error, {not_json, Where :: list()}}.
encode(Term) ->
    erlmcp_shm_nif:encode_json(Term).

%% @doc The term; nothing in it refers to the text.
-spec decode(binary()) -> {ok, term()} | {error, {not_json, []}}.
decode(Text) ->
    case erlmcp_shm_nif:decode_json(Text) of
        busy -> erlmcp_shm_nif:decode_json_dirty(Text);
        Result -> Result
    end.
