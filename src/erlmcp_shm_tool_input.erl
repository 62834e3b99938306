%% @private
%% Whether what a tool is called with is what its published schema describes. One that is not published has none.
-module(erlmcp_shm_tool_input).

-include_lib("kernel/include/logger.hrl").

-export([check/2]).

%% Of very many faults these are enough to go on with.
-define(SHOWN, 10).

%% @doc The error is for the model that called it: it says where in the arguments what is wrong. A schema that cannot be used
%% is said once, and stands in no call's way.
-spec check(Name :: binary(), Arguments :: map()) -> ok | {error, binary()}.
check(Name, Arguments) ->
    case erlmcp_shm_exporter:lookup(tool, Name) of
        {ok, Json, _} -> check(Name, Json, Arguments);
        {error, _} -> ok
    end.

check(Name, Json, Arguments) ->
    {ok, Schema} = erlmcp_shm_json:decode(Json),
    case erlmcp_shm_schema:check(Schema, Arguments) of
        ok -> ok;
        {error, Faults} -> {error, text(Name, Faults)};
        {unusable, Why} -> unusable(Name, erlang:phash2(Json), Why)
    end.

text(Name, Faults) ->
    Shown = [[place(At), " ", What] || {At, What} <- lists:sublist(Faults, ?SHOWN)],
    More =
        case length(Faults) - ?SHOWN of
            N when N > 0 -> [io_lib:format("and ~b more", [N])];
            _ -> []
        end,
    iolist_to_binary(["Invalid arguments for tool ", Name, ": ", lists:join("; ", Shown ++ More)]).

place(<<>>) -> "the whole of them";
place(At) -> At.

unusable(Name, Hash, Why) ->
    Said = {?MODULE, Name},
    case persistent_term:get(Said, none) of
        Hash ->
            ok;
        _ ->
            ?LOG_WARNING(#{what => tool_schema, tool => Name, unusable => Why}),
            persistent_term:put(Said, Hash)
    end.
