// A Bayesian layer on LANES lanes: memories, sequencer, generators of normal numbers, PEs.
// MEMORISE = 0: pe_base, one pass per voter. MEMORISE = 1: pe_dm, two passes more per block.
// Weights lie in groups of LANES rows, address = group * columns + column. Load them (and x)
// through the load port, then raise `start` for a cycle; `valid` marks a group's sums in `y`.
module engine #(
    parameter MEMORISE = 1,
    parameter LANES = 8,
    parameter BLOCK = 1,    // row groups memorised at a time
    parameter COLUMNS = 64, // at most
    parameter GROUPS = 2,   // at most
    parameter FRACTION = 6,
    parameter SHIFT = 6,
    parameter DROP = 0,
    parameter BETA = 15,
    parameter ETA = 22,
    parameter ACC = 28,
    parameter COLUMN = 6,   // bits of a column number
    parameter GROUP = 1,
    parameter PASS = 6,
    parameter ROW = 1,
    parameter WEIGHT = 7,
    parameter OFFSET = 6,
    parameter [97*LANES-1:0] SEED = 1
) (
    input clk,
    input reset,
    input load_mu,
    input load_sigma,
    input load_x,
    input [WEIGHT-1:0] load_address,
    input [8*LANES-1:0] load_data,
    input start,
    input [COLUMN-1:0] last_column,
    input [GROUP-1:0] last_group,
    input [PASS-1:0] last_pass,
    output busy,
    output reg valid,
    output [ACC*LANES-1:0] y
);
    wire [COLUMN-1:0] column;
    wire [ROW-1:0] row;
    wire [PASS-1:0] pass;
    wire [WEIGHT-1:0] weight;
    wire [OFFSET-1:0] offset;
    wire first, last;
    sequencer #(
        .BLOCK(BLOCK), .ROW(ROW), .COLUMN(COLUMN), .GROUP(GROUP), .PASS(PASS), .WEIGHT(WEIGHT),
        .OFFSET(OFFSET)
    ) walk (
        .clk(clk), .reset(reset), .start(start), .last_column(last_column),
        .last_group(last_group), .last_pass(last_pass), .busy(busy), .column(column), .row(row),
        .pass(pass), .weight(weight), .offset(offset), .first(first), .last(last)
    );

    // what the memories are asked for now ...
    wire beta_pass = MEMORISE && pass == 0;
    wire eta_pass = MEMORISE && pass == 1;
    wire voter_pass = !beta_pass && !eta_pass;
    wire read_mu = busy && (MEMORISE ? eta_pass : 1'b1);
    wire read_sigma = busy && (MEMORISE ? beta_pass : 1'b1);
    wire read_x = busy && (MEMORISE ? !voter_pass : 1'b1);
    wire draw = busy && voter_pass;
    // ... is multiplied a cycle later and added two cycles later
    reg multiplies, makes_beta, makes_eta, starts, finishes;
    reg adds, writes, of_eta, begins, ends;
    reg [ROW-1:0] made_row, row_of;
    reg [OFFSET-1:0] made_at, write_at;
    always @(posedge clk) begin
        multiplies <= busy && !reset;
        makes_beta <= beta_pass;
        makes_eta <= eta_pass;
        starts <= first;
        finishes <= last;
        made_row <= row;
        made_at <= offset;
        adds <= multiplies && !makes_beta && !reset;
        writes <= multiplies && makes_beta && !reset;
        of_eta <= makes_eta;
        begins <= starts;
        ends <= finishes;
        row_of <= made_row;
        write_at <= made_at;
        valid <= adds && ends && !of_eta && !reset;
    end

    wire [8*LANES-1:0] mu, sigma;
    wire [7:0] x;
    wire loads = load_mu || load_sigma || load_x;
    wire [WEIGHT-1:0] weight_address = loads ? load_address : weight;
    wire [COLUMN-1:0] x_address = loads ? load_address[COLUMN-1:0] : column;
    ram #(.WIDTH(8 * LANES), .DEPTH(COLUMNS * GROUPS), .ADDRESS(WEIGHT)) mu_ram (
        .clk(clk), .enable(load_mu || read_mu), .write(load_mu), .address(weight_address),
        .in(load_data), .out(mu)
    );
    ram #(.WIDTH(8 * LANES), .DEPTH(COLUMNS * GROUPS), .ADDRESS(WEIGHT)) sigma_ram (
        .clk(clk), .enable(load_sigma || read_sigma), .write(load_sigma),
        .address(weight_address), .in(load_data), .out(sigma)
    );
    ram #(.WIDTH(8), .DEPTH(COLUMNS), .ADDRESS(COLUMN)) x_ram (
        .clk(clk), .enable(load_x || read_x), .write(load_x), .address(x_address),
        .in(load_data[7:0]), .out(x)
    );

    wire [BETA*LANES-1:0] beta, made;
    genvar lane;
    generate
        if (MEMORISE) begin : memory
            ram #(.WIDTH(BETA * LANES), .DEPTH(COLUMNS * BLOCK), .ADDRESS(OFFSET)) beta_ram (
                .clk(clk), .enable(writes || draw), .write(writes),
                .address(writes ? write_at : offset), .in(made), .out(beta)
            );
        end
        for (lane = 0; lane < LANES; lane = lane + 1) begin : lanes
            wire signed [7:0] eps;
            normal #(.FRACTION(FRACTION), .SEED(SEED[97*lane +: 97])) source (
                .clk(clk), .reset(reset), .draw(draw), .value(eps)
            );
            if (MEMORISE) begin : pe
                pe_dm #(
                    .FRACTION(FRACTION), .DROP(DROP), .BETA(BETA), .BLOCK(BLOCK), .ROW(ROW),
                    .ETA(ETA), .ACC(ACC)
                ) dm (
                    .clk(clk), .mu(mu[8*lane +: 8]), .sigma(sigma[8*lane +: 8]), .x(x),
                    .eps(eps), .beta(beta[BETA*lane +: BETA]), .makes_beta(makes_beta),
                    .makes_eta(makes_eta), .adds(adds), .begins(begins), .of_eta(of_eta),
                    .ends(ends), .row(row_of), .made(made[BETA*lane +: BETA]),
                    .sum(y[ACC*lane +: ACC])
                );
            end else begin : pe
                pe_base #(.FRACTION(FRACTION), .SHIFT(SHIFT), .ACC(ACC)) base (
                    .clk(clk), .mu(mu[8*lane +: 8]), .sigma(sigma[8*lane +: 8]), .x(x),
                    .eps(eps), .adds(adds), .begins(begins), .sum(y[ACC*lane +: ACC])
                );
            end
        end
    endgenerate
endmodule
