%% A station that publishes what it measures, every second, and the schema of the tool that asks for a forecast.
-module(weather_station).

-behaviour(gen_server).

-export([start_link/0, init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2]).

-define(PERIOD, 1000).

start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

init([]) ->
    ok = erlmcp_shm_exporter:export_tool_schema(
        <<"forecast">>,
        #{type => <<"object">>, properties => #{hours => #{type => <<"integer">>}}, required => [<<"hours">>]},
        #{description => <<"Tells the weather in some hours">>}
    ),
    {ok, 0, {continue, measure}}.

handle_continue(measure, Count) ->
    handle_info(measure, Count).

handle_info(measure, Count) ->
    Text = io_lib:format("{\"count\":~b,\"celsius\":~.1f}", [Count, 20 + math:sin(Count)]),
    %% A reader finds it as soon as this returns.
    ok = erlmcp_shm_exporter:export_resource(<<"weather://now">>, iolist_to_binary(Text), #{
        mime_type => <<"application/json">>
    }),
    _ = erlang:send_after(?PERIOD, self(), measure),
    {noreply, Count + 1}.

handle_call(_Request, _From, Count) ->
    {reply, {error, unknown}, Count}.

handle_cast(_Request, Count) ->
    {noreply, Count}.
